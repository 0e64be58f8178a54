// The cuda device: a GPU, its stream and its memory. Copies to and from the host are in device_cuda_transfers.cu.
//
// A process has one cuda device. Its constructor makes it CUDA's current device for the thread that runs it, and every
// call below belongs on that thread; none sets it again.
#include <chrono>
#include <thread>

#include "kernels/device_cuda.hpp"
#include "kernels/launch.hpp"

namespace lorashard::kernels {
namespace {

constexpr int kOldestMajor = 8;  // compute capability 8.0: bf16 in tensor cores, asynchronous copies into shared memory

__global__ void nothing_kernel() {}

std::string described(int ordinal, const cudaDeviceProp& p) {
  return text("GPU ", ordinal, " is a ", p.name, " of compute capability ", p.major, ".", p.minor);
}

void find_device(int ordinal, cudaDeviceProp& properties) {
  const int count = cuda_device_count();
  if (ordinal < 0 || ordinal >= count) {
    fail(Failure::configuration,
         text("GPU ", ordinal, " asked for, this process sees ", count, " (", cuda_build(), ")"));
  }
  checked(cudaSetDevice(ordinal), "cudaSetDevice");
  checked(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  if (properties.major < kOldestMajor) {
    fail(Failure::configuration,
         text(described(ordinal, properties), ", expected ", kOldestMajor, ".0 or newer; built with ", cuda_build()));
  }
}

// CUDA tells only at a launch whether a program holds code for the card.
void try_launch(int ordinal, const cudaDeviceProp& properties, cudaStream_t stream) {
  try {
    launch<nothing_kernel>(stream, {1, 1});
  } catch (const Error& error) {
    fail(Failure::configuration,
         text(described(ordinal, properties), ", which runs no kernel of this program, built with ", cuda_build(), " (",
              error.what(), ")"));
  }
}

// What is given back stays in the pool: a step asks for the same blocks as the one before it.
cudaMemPool_t make_pool(int ordinal) {
  cudaMemPoolProps wanted{};
  wanted.allocType = cudaMemAllocationTypePinned;
  wanted.location.type = cudaMemLocationTypeDevice;
  wanted.location.id = ordinal;
  cudaMemPool_t pool = nullptr;
  checked(cudaMemPoolCreate(&pool, &wanted), "cudaMemPoolCreate");
  std::uint64_t most = ~std::uint64_t{0};
  checked(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &most), "cudaMemPoolSetAttribute");
  return pool;
}

}  // namespace

void checked(cudaError_t code, const char* call, std::source_location where) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would report it again
  fail(code == cudaErrorMemoryAllocation ? Failure::memory : Failure::other,
       text(call, ": ", cudaGetErrorString(code), " (", cudaGetErrorName(code), ")"), where);
}

std::unique_ptr<Device> make_cuda_device(int ordinal, bool tf32) {
  auto device = std::make_unique<CudaDevice>(ordinal);
  device->allow_tf32(tf32);
  return device;
}

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::string cuda_build() {
#ifdef LORASHARD_CUDA_BUILD
  return LORASHARD_CUDA_BUILD;
#else
  return "CUDA";
#endif
}

CudaDevice::State::~State() {
  products.reset();
  staging.reset();
  clock.reset();
  if (stream != nullptr) cudaStreamDestroy(stream);  // neither call waits for what is still queued
  if (pool != nullptr) cudaMemPoolDestroy(pool);
}

CudaDevice::CudaDevice(int ordinal)
    : Device(DeviceKind::cuda, DeviceKind::cuda), state_(std::make_unique<State>(ordinal)) {
  find_device(ordinal, state_->properties);
  checked(cudaStreamCreateWithFlags(&state_->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  try_launch(ordinal, state_->properties, state_->stream);
  state_->pool = make_pool(ordinal);
  state_->clock = std::make_unique<CudaPhaseClock>(profile(), stream());
  profile().measure_with(*state_->clock);
  state_->staging = std::make_unique<StagingRing>(*this);
  state_->products = std::make_unique<Products>(*this);
}

CudaDevice::~CudaDevice() { state_->products.reset(); }  // its workspace is a Buffer, which needs the device whole

CudaPhaseClock& CudaDevice::clock() { return *state_->clock; }
cudaStream_t CudaDevice::stream() const { return state_->stream; }
int CudaDevice::ordinal() const { return state_->ordinal; }
int CudaDevice::multiprocessors() const { return state_->properties.multiProcessorCount; }
CudaDevice::Products& CudaDevice::products() { return *state_->products; }
void CudaDevice::allow_tf32(bool allowed) { state_->products->tf32 = allowed; }

void CudaDevice::synchronize() {
  CudaEvent reached;
  state_->clock->begin(Phase::other);
  reached.record(stream());
  wait_for(reached.get());
  state_->clock->settle();
}

namespace {

// An event with timing.
class CudaMoment final : public Moment {
 public:
  explicit CudaMoment(CudaDevice& device) : device_(device) {
    checked(cudaEventCreateWithFlags(&event_, cudaEventDefault), "cudaEventCreateWithFlags");
    checked(cudaEventRecord(event_, device.stream()), "cudaEventRecord");
  }
  ~CudaMoment() override { cudaEventDestroy(event_); }
  double seconds_since(const Moment& earlier) const override {
    const CudaMoment& from = static_cast<const CudaMoment&>(earlier);
    device_.wait_for(from.event_);
    device_.wait_for(event_);
    float milliseconds = 0;
    checked(cudaEventElapsedTime(&milliseconds, from.event_, event_), "cudaEventElapsedTime");
    return 1e-3 * milliseconds;
  }

 private:
  CudaDevice& device_;
  cudaEvent_t event_ = nullptr;
};

}  // namespace

std::unique_ptr<Moment> CudaDevice::moment() { return std::make_unique<CudaMoment>(*this); }

void CudaDevice::wait_for(cudaEvent_t event) {
  using std::chrono::steady_clock;
  constexpr auto kAwake = std::chrono::microseconds(200), kNap = std::chrono::microseconds(20);
  constexpr auto kBetweenPolls = std::chrono::milliseconds(2);
  const auto begin = steady_clock::now();
  auto next_poll = begin + kBetweenPolls;
  for (;;) {
    const cudaError_t state = cudaEventQuery(event);
    if (state != cudaErrorNotReady) return checked(state, "cudaEventQuery");
    cudaGetLastError();  // "not ready" counts as an error there
    const auto now = steady_clock::now();
    if (now >= next_poll) {
      state_->clock->settle();
      for (std::size_t i = 0; i < state_->pollers.size(); ++i) state_->pollers[i].second();
      next_poll = steady_clock::now() + kBetweenPolls;
    }
    if (now - begin < kAwake) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

void CudaDevice::add_poller(const void* owner, std::function<void()> poll) {
  state_->pollers.emplace_back(owner, std::move(poll));
}

void CudaDevice::remove_poller(const void* owner) noexcept {
  std::erase_if(state_->pollers, [owner](const auto& entry) { return entry.first == owner; });
}

std::byte* CudaDevice::acquire(Index bytes) {
  if (bytes == 0) return nullptr;
  void* data = nullptr;
  const auto ask = [&] {
    const cudaError_t code = cudaMallocFromPoolAsync(&data, static_cast<std::size_t>(bytes), state_->pool, stream());
    if (code == cudaErrorMemoryAllocation) return void(cudaGetLastError());
    checked(code, "cudaMallocFromPoolAsync");
  };
  ask();
  if (data == nullptr) {  // blocks that are still in use, or of the wrong sizes, may be all that is missing
    synchronize();
    checked(cudaMemPoolTrimTo(state_->pool, 0), "cudaMemPoolTrimTo");
    ask();
  }
  if (data == nullptr) {
    std::size_t free_bytes = 0, total_bytes = 0;
    checked(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    fail(Failure::memory,
         text("memory of GPU ", ordinal(), " (", state_->properties.name, "): ", bytes, " bytes asked for with ",
              ledger().current_bytes(), " bytes held; ", free_bytes, " of ", total_bytes, " bytes are free"));
  }
  return static_cast<std::byte*>(data);
}

void CudaDevice::give_back(std::byte* data, Index) noexcept {
  if (data != nullptr) cudaFreeAsync(data, stream());
}

}  // namespace lorashard::kernels
