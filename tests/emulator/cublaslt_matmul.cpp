// Choosing an algorithm and queueing a product. There are two algorithms: one that splits K and writes partial sums to
// the workspace (offered first where the preference allows it, so that a workspace shared by two streams without an
// event between them shows), and one without. Both rely on the alignment that was promised when they were chosen, up to
// 16 bytes: a less aligned buffer is refused, where a GPU would fail with a misaligned address.
#include <algorithm>
#include <cstring>
#include <new>

#include "tests/emulator/cublaslt.hpp"
#include "tests/emulator/queue.hpp"

namespace lorashard::emulator::cublaslt {
namespace {

constexpr std::uint64_t kMostWorkspaceBytes = std::uint64_t{1} << 20;
constexpr std::uint32_t kVectorBytes = 16;

std::uint64_t workspace_bytes(const Problem& p, const Algorithm& algorithm) {
  if (algorithm.split_k == 1) return 0;
  const std::uint64_t partial_sums = p.m() * p.n() * static_cast<std::uint64_t>(p.d.batch) * sizeof(float);
  return std::min(kMostWorkspaceBytes, (partial_sums + 255) / 256 * 256);
}

// The largest power of two up to 16 that divides `value`; 16 for 0, which stands for a pointer that is not known yet.
std::uint32_t alignment_of(std::uint64_t value) {
  return value == 0 ? kVectorBytes : static_cast<std::uint32_t>(std::min<std::uint64_t>(kVectorBytes, value & -value));
}
std::uint32_t alignment_of(const void* pointer) { return alignment_of(reinterpret_cast<std::uint64_t>(pointer)); }

// What every line of a matrix is aligned to when its first one is aligned to `first`.
std::uint32_t line_alignment(const Layout& layout, std::uint32_t first) {
  const std::uint64_t size = size_bytes(layout.type);
  std::uint32_t alignment =
      std::min(alignment_of(std::uint64_t{first}), alignment_of(static_cast<std::uint64_t>(layout.ld) * size));
  if (layout.batch > 1)
    alignment = std::min(alignment, alignment_of(static_cast<std::uint64_t>(layout.batch_stride) * size));
  return alignment;
}

Algorithm make_algorithm(const Problem& p, const Preference& preference, bool split) {
  Algorithm algorithm;
  algorithm.id = split ? 1 : 0;
  algorithm.split_k = split ? 4 : 1;
  algorithm.reduction_scheme = split ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
  algorithm.type_ab = p.a.type;
  algorithm.type_cd = p.d.type;
  algorithm.epilogue = p.op.epilogue;
  algorithm.alignment_a = line_alignment(p.a, preference.alignment_a);
  algorithm.alignment_b = line_alignment(p.b, preference.alignment_b);
  algorithm.alignment_c = line_alignment(p.c, preference.alignment_c);
  algorithm.alignment_d = line_alignment(p.d, preference.alignment_d);
  algorithm.alignment_bias = alignment_of(p.op.bias);
  algorithm.alignment_aux = alignment_of(p.op.aux);
  return algorithm;
}

// The algorithms that the preference allows, the one to prefer first.
std::vector<Algorithm> choose(const Problem& p, const Preference& preference) {
  std::vector<Algorithm> chosen;
  const Algorithm split = make_algorithm(p, preference, true);
  if ((preference.reduction_schemes & split.reduction_scheme) &&
      workspace_bytes(p, split) <= preference.max_workspace_bytes)
    chosen.push_back(split);
  chosen.push_back(make_algorithm(p, preference, false));
  return chosen;
}

// The search that cublasLtMatmul() itself makes when it is given no algorithm.
Algorithm choose_for(const Problem& p, const Operands& operands, std::uint64_t workspace) {
  Preference preference;
  preference.max_workspace_bytes = workspace;
  preference.alignment_a = alignment_of(operands.a);
  preference.alignment_b = alignment_of(operands.b);
  preference.alignment_c = alignment_of(operands.c);
  preference.alignment_d = alignment_of(operands.d);
  return choose(p, preference).front();
}

bool made_for(const Algorithm& algorithm, const Problem& p) {
  return algorithm.kind == Kind::algorithm && algorithm.type_ab == p.a.type && algorithm.type_cd == p.d.type &&
         algorithm.epilogue == p.op.epilogue;
}

bool aligned_as_promised(const Algorithm& algorithm, const Problem& p, const Operands& operands) {
  return line_alignment(p.a, alignment_of(operands.a)) >= algorithm.alignment_a &&
         line_alignment(p.b, alignment_of(operands.b)) >= algorithm.alignment_b &&
         line_alignment(p.c, alignment_of(operands.c)) >= algorithm.alignment_c &&
         line_alignment(p.d, alignment_of(operands.d)) >= algorithm.alignment_d &&
         alignment_of(p.op.bias) >= algorithm.alignment_bias && alignment_of(p.op.aux) >= algorithm.alignment_aux;
}

cublasStatus_t buffers_status(const Problem& p, const Operands& operands) {
  const bool needs_bias = p.op.adds_bias() || p.op.sums_bias_gradient(),
             needs_aux = p.op.writes_aux() || p.op.reads_aux();
  if (!operands.a || !operands.b || !operands.c || !operands.d) return CUBLAS_STATUS_INVALID_VALUE;
  if ((needs_bias && !p.op.bias) || (needs_aux && !p.op.aux)) return CUBLAS_STATUS_INVALID_VALUE;
  if (operands.c == operands.d && p.c != p.d) return CUBLAS_STATUS_INVALID_VALUE;
  const std::uint32_t input = static_cast<std::uint32_t>(size_bytes(p.a.type)),
                      output = static_cast<std::uint32_t>(size_bytes(p.d.type));
  if (alignment_of(operands.a) < input || alignment_of(operands.b) < input || alignment_of(operands.c) < output ||
      alignment_of(operands.d) < output || (needs_bias && alignment_of(p.op.bias) < output) ||
      (needs_aux && alignment_of(p.op.aux) < output))
    return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

void add_accesses(std::vector<Access>& accesses, const void* data, const Layout& layout, bool write) {
  const std::size_t size = size_bytes(layout.type);
  for (std::int32_t i = 0; i < layout.batch; ++i) {
    const char* first = static_cast<const char*>(data) + i * layout.batch_stride * static_cast<std::int64_t>(size);
    accesses.push_back(
        {first, layout.line() * size, layout.lines(), static_cast<std::size_t>(layout.ld) * size, write});
  }
}

Layout aux_layout(const Problem& p) {
  Layout layout = p.d;
  layout.order = CUBLASLT_ORDER_COL;
  layout.ld = p.op.aux_ld;
  layout.batch_stride = p.op.aux_batch_stride;
  return layout;
}

std::vector<Access> accesses_of(const Problem& p, const Operands& operands) {
  std::vector<Access> accesses;
  add_accesses(accesses, operands.a, p.a, false);
  add_accesses(accesses, operands.b, p.b, false);
  if (operands.beta != 0.0f) add_accesses(accesses, operands.c, p.c, false);
  if (p.op.adds_bias() || p.op.sums_bias_gradient()) {
    const std::uint64_t count = p.op.epilogue == CUBLASLT_EPILOGUE_BGRADB ? p.n() : p.m();
    const std::int64_t stride = p.op.bias_batch_stride * static_cast<std::int64_t>(size_bytes(p.d.type));
    for (std::int32_t i = 0; i < p.d.batch; ++i)
      accesses.push_back({static_cast<const char*>(p.op.bias) + i * stride, count * size_bytes(p.d.type), 1, 0,
                          p.op.sums_bias_gradient()});
  }
  if (p.op.writes_aux() || p.op.reads_aux()) add_accesses(accesses, p.op.aux, aux_layout(p), p.op.writes_aux());
  add_accesses(accesses, operands.d, p.d, true);
  return accesses;
}

std::string describe(const Problem& p) {
  return "cublasLtMatmul " + std::to_string(p.m()) + "x" + std::to_string(p.n()) + "x" + std::to_string(p.k());
}

struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

cublasStatus_t run(const Problem& p, const Operands& operands, const cublasLtMatmulAlgo_t* given, Workspace workspace,
                   cudaStream_t stream) {
  Algorithm algorithm;
  if (given)
    std::memcpy(&algorithm, given->data, sizeof(algorithm));
  else
    algorithm = choose_for(p, operands, workspace.data ? workspace.bytes : 0);
  if (!made_for(algorithm, p)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!aligned_as_promised(algorithm, p, operands)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const std::uint64_t needed = workspace_bytes(p, algorithm);
  if (needed > 0 &&
      (!workspace.data || workspace.bytes < needed || reinterpret_cast<std::uint64_t>(workspace.data) % 256 != 0))
    return CUBLAS_STATUS_INVALID_VALUE;
  std::vector<Access> accesses = accesses_of(p, operands);
  if (needed > 0) accesses.push_back({workspace.data, needed, 1, 0, true});
  enqueue(stream, describe(p), std::move(accesses), [p, operands, workspace, needed] {
    // All ones is a NaN in every type: whoever takes the workspace for its own data sees it.
    if (needed > 0) std::memset(workspace.data, 0xff, needed);
    multiply(p, operands);
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace lorashard::emulator::cublaslt

using namespace lorashard::emulator::cublaslt;

struct cublasLtContext {};  // the emulated library keeps nothing

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
size_t cublasLtGetCudartVersion() { return CUDART_VERSION; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS, another one";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }
const char* cublasGetStatusName(cublasStatus_t status) { return cublasLtGetStatusName(status); }
const char* cublasGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  if (returned) *returned = 0;
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  Problem problem;
  if (requested < 1 || !results || !returned || !preference || !read_descriptors(op, a, b, c, d, &problem))
    return CUBLAS_STATUS_INVALID_VALUE;
  Preference wanted;
  std::memcpy(&wanted, preference->data, sizeof(wanted));
  if (wanted.kind != Kind::preference) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = supported(problem); status != CUBLAS_STATUS_SUCCESS) return status;
  for (const Algorithm& algorithm : choose(problem, wanted)) {
    if (*returned == requested) break;
    cublasLtMatmulHeuristicResult_t& result = results[(*returned)++];
    std::memset(&result, 0, sizeof(result));
    new (result.algo.data) Algorithm(algorithm);
    result.workspaceSize = workspace_bytes(problem, algorithm);
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1.0f;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  Problem problem;
  if (!alpha || !beta || !read_descriptors(op, a_layout, b_layout, c_layout, d_layout, &problem))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = supported(problem); status != CUBLAS_STATUS_SUCCESS) return status;
  const Operands operands{a, b, c, d, *static_cast<const float*>(alpha), *static_cast<const float*>(beta)};
  if (const cublasStatus_t status = buffers_status(problem, operands); status != CUBLAS_STATUS_SUCCESS) return status;
  if (d == a || d == b) lorashard::emulator::fault(describe(problem), "the result is written over an operand");
  return run(problem, operands, algorithm, {workspace, workspace_bytes}, stream);
}

}  // extern "C"
