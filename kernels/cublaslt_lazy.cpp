// cuBLASLt, loaded by the first call of it. Its constructors take 140 MiB and a quarter of a second of every process
// that is linked with it, also of one that plans or runs on the host, or of the hundreds of a rehearsal.
//
// These are the library's own functions by name, so callers include cublasLt.h and nothing else; tests/emulator has its
// own in their place.
#include <cublasLt.h>
#include <dlfcn.h>

#include "kernels/error.hpp"

#define LORASHARD_QUOTED(value) #value
#define LORASHARD_LIBRARY(major) "libcublasLt.so." LORASHARD_QUOTED(major)

namespace {

using lorashard::kernels::fail;
using lorashard::kernels::Failure;
using lorashard::kernels::text;

// Where the loader looks, then where the build found it.
void* library() {
  static void* const handle = [] {
    constexpr const char* kName = LORASHARD_LIBRARY(CUBLAS_VER_MAJOR);
    for (const std::string& path : {std::string(kName), text(LORASHARD_CUDA_LIBRARIES, "/", kName)})
      if (void* const found = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return found;
    fail(Failure::configuration, text("device.kind: cuda needs ", kName, ", which cannot be loaded (", dlerror(),
                                      "); expected it in a folder of LD_LIBRARY_PATH"));
  }();
  return handle;
}

template <class Function>
Function* found(const char* name) {
  void* const address = dlsym(library(), name);
  if (address == nullptr) fail(Failure::configuration, text(LORASHARD_LIBRARY(CUBLAS_VER_MAJOR), " has no ", name));
  return reinterpret_cast<Function*>(address);
}

}  // namespace

// The arguments of `name` handed to the library's.
#define LORASHARD_HAND_ON(name, ...)                          \
  static const auto library_s = found<decltype(name)>(#name); \
  return library_s(__VA_ARGS__)

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { LORASHARD_HAND_ON(cublasLtCreate, handle); }

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { LORASHARD_HAND_ON(cublasLtDestroy, handle); }

const char* cublasLtGetStatusName(cublasStatus_t status) { LORASHARD_HAND_ON(cublasLtGetStatusName, status); }

const char* cublasLtGetStatusString(cublasStatus_t status) { LORASHARD_HAND_ON(cublasLtGetStatusString, status); }

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  LORASHARD_HAND_ON(cublasLtMatmul, handle, product, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
                    algorithm, workspace, workspace_bytes, stream);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  LORASHARD_HAND_ON(cublasLtMatmulAlgoGetHeuristic, handle, product, a, b, c, d, preference, wanted, results, count);
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t product, std::size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  LORASHARD_HAND_ON(cublasLtMatmulDescInit_internal, product, size, compute, scale);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t size) {
  LORASHARD_HAND_ON(cublasLtMatmulDescSetAttribute, product, attribute, value, size);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, std::size_t size) {
  LORASHARD_HAND_ON(cublasLtMatmulPreferenceInit_internal, preference, size);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t size) {
  LORASHARD_HAND_ON(cublasLtMatmulPreferenceSetAttribute, preference, attribute, value, size);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, std::size_t size, cudaDataType type,
                                                 std::uint64_t rows, std::uint64_t cols, std::int64_t stride) {
  LORASHARD_HAND_ON(cublasLtMatrixLayoutInit_internal, layout, size, type, rows, cols, stride);
}

}  // extern "C"
