// Devices, their properties, error codes and faults.
#include "tests/emulator/devices.hpp"

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "tests/emulator/queue.hpp"

namespace lorashard::emulator {
namespace {

struct Faults {
  std::mutex mutex;
  bool collected = false;
  std::vector<std::string> all;
};
Faults& faults() {
  static Faults& state = *new Faults;
  return state;
}

thread_local int device = 0;
thread_local cudaError_t last = cudaSuccess;

int device_count() {
  const char* text = std::getenv("LORASHARD_EMULATOR_DEVICES");
  return text == nullptr ? 8 : std::atoi(text);
}

cudaError_t remember(cudaError_t code) {
  if (code != cudaSuccess) last = code;
  return code;
}

}  // namespace

void fault(const std::string& operation, const std::string& what) {
  const std::lock_guard<std::mutex> lock(faults().mutex);
  const std::string line = "emulator: " + operation + ": " + what;
  if (faults().collected) {
    faults().all.push_back(line);
    return;
  }
  std::fprintf(stderr, "%s\n", line.c_str());
  std::fflush(nullptr);
  std::_Exit(99);
}

void collect_faults() {
  const std::lock_guard<std::mutex> lock(faults().mutex);
  faults().collected = true;
}

std::vector<std::string> take_faults() {
  const std::lock_guard<std::mutex> lock(faults().mutex);
  return std::exchange(faults().all, {});
}

// Compute capability, ten times.
int capability() {
  const char* text = std::getenv("LORASHARD_EMULATOR_CAPABILITY");
  return text == nullptr ? 90 : static_cast<int>(std::atof(text) * 10 + 0.5);
}

// CUDA C++ Programming Guide, technical specifications per compute capability.
std::size_t largest_shared_bytes() {
  switch (capability()) {
    case 80:
    case 87:
      return 163 * 1024;
    case 86:
    case 89:
    case 120:
      return 99 * 1024;
    case 90:
    case 100:
    case 103:
      return 227 * 1024;
    default:
      return 48 * 1024;
  }
}

}  // namespace lorashard::emulator

using namespace lorashard::emulator;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return remember(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int ordinal) {
  if (ordinal < 0 || ordinal >= device_count()) return remember(cudaErrorInvalidDevice);
  device = ordinal;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* ordinal) {
  *ordinal = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  if (ordinal < 0 || ordinal >= device_count()) return remember(cudaErrorInvalidDevice);
  cudaDeviceProp p;
  std::memset(&p, 0, sizeof p);
  std::strcpy(p.name, "emulated");
  std::memset(&p.uuid, ordinal + 1, sizeof p.uuid);
  std::size_t free;
  cudaMemGetInfo(&free, &p.totalGlobalMem);
  p.sharedMemPerBlock = 48 * 1024;
  p.sharedMemPerBlockOptin = largest_shared_bytes();
  p.sharedMemPerMultiprocessor = largest_shared_bytes() + 1024;
  p.reservedSharedMemPerBlock = 1024;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.maxThreadsPerBlock = p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = kLargestGrid.x;
  p.maxGridSize[1] = kLargestGrid.y;
  p.maxGridSize[2] = kLargestGrid.z;
  p.maxThreadsPerMultiProcessor = 2048;
  p.major = capability() / 10;
  p.minor = capability() % 10;
  p.multiProcessorCount = kMultiprocessors;
  p.l2CacheSize = 4 << 20;
  p.pciBusID = ordinal + 1;
  p.asyncEngineCount = p.concurrentKernels = p.unifiedAddressing = p.memoryPoolsSupported =
      p.streamPrioritiesSupported = 1;
  *properties = p;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int ordinal) {
  cudaDeviceProp p;
  if (const cudaError_t code = cudaGetDeviceProperties(&p, ordinal); code != cudaSuccess) return code;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
    case cudaDevAttrPciBusId:
      *value = p.pciBusID;
      break;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
      *value = 0;
      break;
    default:
      fault("cudaDeviceGetAttribute", "attribute " + std::to_string(attribute) + " is not emulated");
  }
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }

// Only what a call itself refuses: a fault of a kernel ends the process.
cudaError_t cudaGetLastError() { return std::exchange(last, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last; }

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidPitchValue:
      return "cudaErrorInvalidPitchValue";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    default:
      return "an error that the emulator does not make";
  }
}
const char* cudaGetErrorString(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidPitchValue:
      return "invalid pitch argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    default:
      return cudaGetErrorName(code);
  }
}

}  // extern "C"
