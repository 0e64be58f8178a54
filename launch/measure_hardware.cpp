// Long, since each constant of a hardware file is measured, fitted and written here, in the order of that file: products,
// attention, passes over memory, links, and then the page itself.
#include "launch/measure_hardware.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <functional>
#include <iomanip>
#include <numeric>
#include <sstream>

#include "kernels/adamw.hpp"
#include "kernels/attention.hpp"
#include "kernels/ceiling.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "launch/machine.hpp"

namespace lorashard::launch {

using kernels::Category;
using kernels::ConstMatrix;
using kernels::Cost;
using kernels::DType;
using kernels::Index;
using kernels::Matrix;
using kernels::Phase;
using kernels::Tensor;
using kernels::text;

namespace {

struct ProductFit {
  double latency_s = 0, share = 1, fill = 0;
};

// All ranks measure the same thing at the same time; every figure is the mean of ranks.
class Bench {
 public:
  Bench(dist::Mesh& mesh, kernels::Device& device) : world_(mesh.world()), device_(device) {}

  // Seconds of one call: the median of as many as take about 0.4 s, at least 5.
  double seconds(const std::function<void()>& body) const {
    body();
    const double once_s = mean(once(body));
    const int calls = std::clamp(static_cast<int>(0.4 / std::max(once_s, 1e-7)), 5, 2000);
    world_.barrier();
    std::vector<double> all;
    for (int i = 0; i < calls; ++i) all.push_back(once(body));
    std::nth_element(all.begin(), all.begin() + calls / 2, all.end());
    return mean(all[static_cast<std::size_t>(calls / 2)]);
  }
  // What one call counts in a phase.
  Cost cost(Phase phase, const std::function<void()>& body) const {
    const kernels::Profile::Entry before = device_.profile().entry(phase);
    body();
    const kernels::Profile::Entry& after = device_.profile().entry(phase);
    return {after.flops - before.flops, after.bytes - before.bytes};
  }
  double mean(double own) const {
    const std::vector<double> all = world_.gather_values({&own, 1});
    return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
  }
  Tensor tensor(DType dtype, Index rows, Index cols) const {
    Tensor t(device_, Category::workspace, dtype, rows, cols);
    kernels::fill(device_, t, 0.01f);
    return t;
  }
  kernels::Device& device() const { return device_; }

 private:
  static double once(const std::function<void()>& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  dist::Communicator& world_;
  kernels::Device& device_;
};

// The rows and extents of a GPT-2 124M step, and adapters of rank 8: what such a job's products look like.
constexpr Index kRows = 1024, kWidth = 768, kRank = 8;

struct TimedProduct {
  double m, n, k, seconds;
  double flops() const { return 2 * m * n * k; }
  double least() const { return std::min({m, n, k}); }
};

TimedProduct forward(const Bench& bench, DType dtype, Index n, Index k, kernels::Epilogue epilogue) {
  kernels::Device& device = bench.device();
  const kernels::Weight weight(device, bench.tensor(dtype, n, k));
  const Tensor x = bench.tensor(dtype, kRows, k), bias = bench.tensor(DType::f32, 1, n);
  Tensor y = bench.tensor(dtype, kRows, n), aux = bench.tensor(dtype, kRows, n);
  kernels::WeightForward product{weight, x, y, bias};
  product.epilogue = epilogue;
  if (epilogue == kernels::Epilogue::gelu) product.aux = aux;
  return {kRows, double(n), double(k), bench.seconds([&] { kernels::multiply(device, product); })};
}

TimedProduct backward(const Bench& bench, DType dtype, Index n, Index k, kernels::Epilogue epilogue) {
  kernels::Device& device = bench.device();
  const kernels::Weight weight(device, bench.tensor(dtype, n, k));
  const Tensor dy = bench.tensor(dtype, kRows, n), aux = bench.tensor(dtype, kRows, k);
  Tensor dx = bench.tensor(dtype, kRows, k);
  kernels::WeightBackward product{weight, dy, dx};
  product.epilogue = epilogue;
  if (epilogue == kernels::Epilogue::gelu_backward) product.aux_in = aux;
  return {kRows, double(k), double(n), bench.seconds([&] { kernels::multiply(device, product); })};
}

TimedProduct plain(const Bench& bench, DType dtype, Index m, Index n, Index k) {
  const Tensor a = bench.tensor(dtype, k, m), b = bench.tensor(dtype, k, n);
  Tensor c = bench.tensor(DType::f32, m, n);
  const kernels::Gemm product{.a = a, .b = b, .c = c, .transpose_a = true, .beta = 1.0f};
  return {double(m), double(n), double(k), bench.seconds([&] { kernels::gemm(bench.device(), product); })};
}

// Least squares of the logarithms over share, for the best of many fills; a tiny product gives the latency.
ProductFit fit_products(const Bench& bench, DType dtype, double flops_per_s) {
  using kernels::Epilogue;
  const std::vector<TimedProduct> products{forward(bench, dtype, 3 * kWidth, kWidth, Epilogue::none),
                                           forward(bench, dtype, 4 * kWidth, kWidth, Epilogue::gelu),
                                           forward(bench, dtype, kWidth, 4 * kWidth, Epilogue::none),
                                           backward(bench, dtype, kWidth, 4 * kWidth, Epilogue::gelu_backward),
                                           backward(bench, dtype, 4 * kWidth, kWidth, Epilogue::none),
                                           plain(bench, dtype, 4 * kWidth, kWidth, kRows),
                                           plain(bench, DType::f32, kRank, kWidth, kRows),
                                           plain(bench, DType::f32, kRows, kRank, kWidth),
                                           plain(bench, DType::f32, kRows, kWidth, kRank)};
  ProductFit best;
  best.latency_s = plain(bench, dtype, 8, 8, 8).seconds;
  double least_error = 1e30;
  for (double fill = 0; fill <= 400; fill += 2) {
    double sum = 0, squares = 0;
    for (const TimedProduct& p : products) {
      const double ideal_s = p.flops() * (1 + fill / p.least()) / flops_per_s;
      const double log_share = std::log(ideal_s / std::max(p.seconds - best.latency_s, 0.1 * p.seconds));
      sum += log_share;
      squares += log_share * log_share;
    }
    const double count = static_cast<double>(products.size()), error = squares - sum * sum / count;
    if (error >= least_error) continue;
    least_error = error;
    best.fill = fill;
    best.share = std::min(1.0, std::exp(sum / count));
  }
  return best;
}

struct AttentionFit {
  double share = 1, edge = 0;
};

// Forward and backward of rows of two lengths: t = (flops + edge bytes) / (share peak).
AttentionFit fit_attention(const Bench& bench, double flops_per_s) {
  const auto measured = [&](Index batch, Index length) {
    const kernels::AttentionShape shape{batch, length, kWidth / 64, kWidth / 64, 64};
    const auto rows = [&] { return bench.tensor(DType::f32, shape.rows(), kWidth); };
    const Tensor q = rows(), k = rows(), v = rows(), dout = rows();
    Tensor out = rows(), dq = rows(), dk = rows(), dv = rows();
    Tensor log_sum = bench.tensor(DType::f32, shape.heads, shape.rows());
    const auto both = [&] {
      kernels::attention(bench.device(), kernels::AttentionForward{shape, q, k, v, out, log_sum});
      kernels::attention(bench.device(), kernels::AttentionBackward{shape, q, k, v, out, log_sum, dout, dq, dk, dv});
    };
    return std::pair(bench.cost(Phase::attention, both), bench.seconds(both));
  };
  const auto [shorter, short_s] = measured(4, kRows / 4);
  const auto [longer, long_s] = measured(1, kRows);
  const double determinant = shorter.bytes * long_s - longer.bytes * short_s;
  double edge = determinant == 0 ? 0 : (longer.flops * short_s - shorter.flops * long_s) / determinant;
  edge = std::max(0.0, edge);
  const double work = shorter.flops + longer.flops + edge * (shorter.bytes + longer.bytes);
  return {std::min(1.0, work / (short_s + long_s) / flops_per_s), edge};
}

// Bytes a second of the passes over memory that a step consists of, all together.
double passes_bytes_per_s(const Bench& bench) {
  kernels::Device& device = bench.device();
  const Tensor x = bench.tensor(DType::f32, kRows, kWidth), weight = bench.tensor(DType::f32, 1, kWidth),
               bias = bench.tensor(DType::f32, 1, kWidth), gradient = bench.tensor(DType::f32, 1, 8 * kRows * kWidth);
  Tensor y = bench.tensor(DType::f32, kRows, kWidth), statistics = bench.tensor(DType::f32, kRows, 2),
         dx = bench.tensor(DType::f32, kRows, kWidth), value = bench.tensor(DType::f32, 1, 8 * kRows * kWidth),
         first = bench.tensor(DType::f32, 1, 8 * kRows * kWidth),
         second = bench.tensor(DType::f32, 1, 8 * kRows * kWidth);
  const auto norms = [&] {
    kernels::layer_norm(device, kernels::LayerNormForward{x, weight, bias, 1e-5f, y, statistics});
    kernels::layer_norm(device, kernels::LayerNormBackward{x, statistics, weight, y, dx, true, {}, {}});
    kernels::add_residual(device, x, dx, bias, y);
  };
  const auto update = [&] {
    kernels::AdamW args{value, first, second, gradient, {}};
    args.lr = 1e-4f;
    kernels::adamw(device, args);
  };
  const double bytes = bench.cost(Phase::elementwise, norms).bytes + bench.cost(Phase::optimizer, update).bytes;
  return bytes / (bench.seconds(norms) + bench.seconds(update));
}

double copy_bytes_per_s(const Bench& bench) {
  constexpr Index kValues = Index{16} << 20;  // 64 MiB: more than most caches hold
  const Tensor from = bench.tensor(DType::f32, 1, kValues);
  Tensor to = bench.tensor(DType::f32, 1, kValues);
  return 2.0 * sizeof(float) * kValues / bench.seconds([&] { kernels::copy(bench.device(), from, to); });
}

struct LinkFit {
  double latency_s = 0, bytes_per_s = 0, message_share = 1;
};

// An all-reduce of a few and of many bytes, and a message to the next rank.
LinkFit fit_link(const Bench& bench, dist::Communicator& world) {
  const double ranks = world.size(), part = 2 * (ranks - 1) / ranks;
  const auto reduce_s = [&](Index values) {
    Tensor data = bench.tensor(DType::f32, 1, values);
    kernels::fill(bench.device(), data, 0);
    return bench.seconds([&] { world.all_reduce(data); });
  };
  LinkFit link;
  link.latency_s = reduce_s(256);
  constexpr Index kValues = Index{1} << 20;  // the size of a layer's activations
  const double bytes = sizeof(float) * kValues;
  link.bytes_per_s = part * bytes / std::max(reduce_s(kValues) - link.latency_s, 1e-9);
  const Tensor out = bench.tensor(DType::f32, 1, kValues);
  Tensor in = bench.tensor(DType::f32, 1, kValues);
  const int next = (world.rank() + 1) % world.size(), before = (world.rank() + world.size() - 1) % world.size();
  const double message_s = bench.seconds([&] {
    const auto pending = world.send(out, next, 0);
    world.receive(in, before, 0);
    pending->wait();
  });
  link.message_share = std::min(1.0, bytes / message_s / link.bytes_per_s);
  return link;
}

std::string line_of(const char* path, const std::string& start) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(start)) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string date_text() {
  const std::time_t now = std::time(nullptr);
  char date[16] = "";
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  return date;
}

}  // namespace

std::string measure_hardware(dist::Runtime& runtime, kernels::Device& device, int threads) {
  if (runtime.size() < 2 || runtime.local_size() != runtime.size())
    kernels::fail(kernels::Failure::configuration,
                  text("command line: --write-hardware: found ", runtime.size(), " ranks, ", runtime.local_size(),
                       " of them on this host, expected at least 2, all on one host, with all its cores between them"));
  dist::Mesh mesh = runtime.make_mesh(device, {1, runtime.size(), 1});  // only a pipeline sends messages
  const Bench bench(mesh, device);
  const double ranks = runtime.size();
  const double f32_flops = 1e9 * bench.mean(kernels::library_gflops(device, kRows, kRows, kRows, DType::f32));
  const double bf16_flops = 1e9 * bench.mean(kernels::library_gflops(device, kRows, kRows, kRows, DType::bf16));
  const ProductFit f32 = fit_products(bench, DType::f32, f32_flops),
                   bf16 = fit_products(bench, DType::bf16, bf16_flops);
  const AttentionFit attention = fit_attention(bench, f32_flops);
  const double passes = passes_bytes_per_s(bench), bytes_per_s = std::max(passes, copy_bytes_per_s(bench));
  const LinkFit link = fit_link(bench, mesh.pipeline());
  const double memory_bytes =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGE_SIZE));

  std::ostringstream out;
  out << std::setprecision(4);
  const auto share = [](double x) { return std::clamp(x, 1e-6, 1.0); };
  out << "# " << line_of("/proc/cpuinfo", "model name") << ", measured " << date_text() << " by\n#   mpirun -np "
      << runtime.size() << " lorashard bench --write-hardware <this file>\n# with " << threads
      << (threads == 1 ? " thread" : " threads")
      << " a rank, all at work at once: rates are of all cores together, and a rank has the share\n# of them that its "
         "threads are. Measured anew it would differ by what else the machine does.\n\n"
      << "[card]\n"
      << "name = host\ndevice = host\n"
      << "memory = " << memory_bytes / 0x1p30 << "GiB  # of the machine, shared by its ranks\n"
      << "libraries = " << static_cast<double>(peak_resident_bytes() - device.ledger().peak_bytes()) / 0x1p20
      << "MiB  # what a process held here beyond what it asked for\n"
      << "f32 = " << ranks * f32_flops / 1e9 << "GFLOP/s  # oneDNN, products of " << kRows << "\ntf32 = 0\n"
      << "bf16 = " << ranks * bf16_flops / 1e9 << "GFLOP/s  # the same, " << kernels::host_bf16_path() << "\n"
      << "bandwidth = " << ranks * bytes_per_s / 1e9
      << "GB/s  # copies of 64 MiB, or the passes below where caches help them more\n"
      << "multiprocessors = " << runtime.size() * threads << "  # threads measured with\n\n"
      << "[products]\n# Fitted on products of GPT-2 124M's layers, bias and GELU included, and of adapters of rank "
      << kRank << ".\n";
  for (const auto& [type, fit] : {std::pair("bf16", bf16), std::pair("f32", f32)})
    out << type << ".latency = " << 1e6 * fit.latency_s << "us\n"
        << type << ".share = " << share(fit.share) << "\n"
        << type << ".fill = " << fit.fill << "\n"
        << type << ".sustained = 1  # of no use on a host\n";
  out << "write_exposed = 0\nbytes_share = 1\n\n"
      << "[kernels]\n# Attention: fp32, head size 64, rows of " << kRows / 4 << " and " << kRows << " tokens.\n"
      << "attention_share = " << share(attention.share) << "\nattention_edge = " << attention.edge
      << "  # FLOPs a byte\nattention_own_share = 1\n"
      << "bytes_share = " << share(passes / bytes_per_s) << "  # norms, residuals and AdamW\n"
      << "latency = 2us  # a guess\n\n"
      << "[node]\n# MPI within this host: an all-reduce of 1 KiB and of 4 MiB, and messages of 4 MiB both ways at "
         "once.\n"
      << "cards = " << runtime.size() << "\n"
      << "inside.bandwidth = " << link.bytes_per_s / 1e9 << "GB/s\ninside.latency = 0\ninside.share = 1\n"
      << "inside.half_ranks = 0\n"
      << "between.bandwidth = 1.25GB/s  # not measured: 10 Gb/s Ethernet\nbetween.latency = 30us  # not measured\n"
      << "between.share = 0.9  # not measured\nquick_share = 1\nbulk_start = 0\n"
      << "message_share = " << share(link.message_share)
      << "\nmessage_bulk_start = 1ms  # never better than message_share\n"
      << "collective_latency = " << 1e6 * link.latency_s << "us\n"
      << "host_memory = " << memory_bytes / 0x1p30 << "GiB\n"
      << "storage = 1GB/s  # not measured: every site differs\n";
  return out.str();
}

}  // namespace lorashard::launch
