// Descriptors of the emulated cuBLASLt. An attribute that is set has to have the size that cublasLt.h states; one that
// the emulator does not know is refused (CUBLAS_STATUS_NOT_SUPPORTED), never ignored.
#include <cstddef>
#include <cstring>
#include <new>
#include <span>

#include "tests/emulator/cublaslt.hpp"

namespace lorashard::emulator::cublaslt {
namespace {

struct Field {
  int attribute;
  std::size_t offset;
  std::size_t bytes;
};
#define FIELD(attribute, type, member) \
  { attribute, offsetof(type, member), sizeof(type::member) }

constexpr Field kLayoutFields[] = {
    FIELD(CUBLASLT_MATRIX_LAYOUT_TYPE, Layout, type),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ORDER, Layout, order),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ROWS, Layout, rows),
    FIELD(CUBLASLT_MATRIX_LAYOUT_COLS, Layout, cols),
    FIELD(CUBLASLT_MATRIX_LAYOUT_LD, Layout, ld),
    FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, Layout, batch),
    FIELD(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, Layout, batch_stride),
};
constexpr Field kOperationFields[] = {
    FIELD(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, Operation, compute),
    FIELD(CUBLASLT_MATMUL_DESC_SCALE_TYPE, Operation, scale),
    FIELD(CUBLASLT_MATMUL_DESC_POINTER_MODE, Operation, pointer_mode),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSA, Operation, transpose_a),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSB, Operation, transpose_b),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSC, Operation, transpose_c),
    FIELD(CUBLASLT_MATMUL_DESC_FILL_MODE, Operation, fill),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE, Operation, epilogue),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_POINTER, Operation, bias),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, Operation, bias_batch_stride),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, Operation, bias_type),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, Operation, aux),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, Operation, aux_ld),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, Operation, aux_batch_stride),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, Operation, aux_type),
    FIELD(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, Operation, sm_count_target),
};
constexpr Field kPreferenceFields[] = {
    FIELD(CUBLASLT_MATMUL_PREF_SEARCH_MODE, Preference, search_mode),
    FIELD(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Preference, max_workspace_bytes),
    FIELD(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, Preference, reduction_schemes),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Preference, alignment_a),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Preference, alignment_b),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Preference, alignment_c),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Preference, alignment_d),
    FIELD(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, Preference, max_waves),
    FIELD(CUBLASLT_MATMUL_PREF_IMPL_MASK, Preference, implementations),
};
constexpr Field kAlgorithmFields[] = {
    FIELD(CUBLASLT_ALGO_CONFIG_ID, Algorithm, id),
    FIELD(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, Algorithm, split_k),
    FIELD(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, Algorithm, reduction_scheme),
};
#undef FIELD

// The struct in an opaque descriptor, or null when there is none of that kind.
template <class T, class Opaque>
T* inside(Opaque* opaque) {
  if (!opaque) return nullptr;
  T* content = reinterpret_cast<T*>(opaque->data);
  return content->kind == T{}.kind ? content : nullptr;
}

template <class T, class Opaque>
cublasStatus_t initialise(Opaque* opaque, std::size_t bytes, const T& content) {
  if (!opaque || bytes < sizeof(Opaque)) return CUBLAS_STATUS_ALLOC_FAILED;
  std::memset(opaque, 0, sizeof(Opaque));
  new (opaque->data) T(content);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Opaque>
cublasStatus_t create(Opaque** opaque, const T& content) {
  if (!opaque) return CUBLAS_STATUS_INVALID_VALUE;
  *opaque = new Opaque;
  return initialise(*opaque, sizeof(Opaque), content);
}

template <class T, class Opaque>
cublasStatus_t destroy(Opaque* opaque) {
  if (!opaque) return CUBLAS_STATUS_SUCCESS;
  if (!inside<T>(opaque)) return CUBLAS_STATUS_INVALID_VALUE;
  opaque->data[0] = 0;
  delete opaque;
  return CUBLAS_STATUS_SUCCESS;
}

const Field* find(std::span<const Field> fields, int attribute) {
  for (const Field& field : fields)
    if (field.attribute == attribute) return &field;
  return nullptr;
}

template <class T>
cublasStatus_t set(T* content, std::span<const Field> fields, int attribute, const void* value, std::size_t bytes) {
  if (!content || !value) return CUBLAS_STATUS_INVALID_VALUE;
  const Field* field = find(fields, attribute);
  if (!field) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (bytes != field->bytes) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(reinterpret_cast<char*>(content) + field->offset, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

struct Destination {
  void* value;
  std::size_t bytes;
  std::size_t* written;
};

template <class T>
cublasStatus_t get(const T* content, std::span<const Field> fields, int attribute, const Destination& to) {
  if (!content) return CUBLAS_STATUS_INVALID_VALUE;
  const Field* field = find(fields, attribute);
  if (!field) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (to.bytes == 0 ? !to.written : !to.value || to.bytes != field->bytes) return CUBLAS_STATUS_INVALID_VALUE;
  if (to.bytes != 0) std::memcpy(to.value, reinterpret_cast<const char*>(content) + field->offset, field->bytes);
  if (to.written) *to.written = field->bytes;
  return CUBLAS_STATUS_SUCCESS;
}

Layout layout_of(cudaDataType type, std::uint64_t rows, std::uint64_t cols, std::int64_t ld) {
  Layout layout;
  layout.type = type;
  layout.rows = rows;
  layout.cols = cols;
  layout.ld = ld;
  return layout;
}

Operation operation_of(cublasComputeType_t compute, cudaDataType_t scale) {
  Operation operation;
  operation.compute = compute;
  operation.scale = scale;
  return operation;
}

}  // namespace

bool read_descriptors(cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                      cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, Problem* problem) {
  const Operation* operation = inside<Operation>(op);
  const Layout* layouts[] = {inside<Layout>(a), inside<Layout>(b), inside<Layout>(c), inside<Layout>(d)};
  if (!operation || !layouts[0] || !layouts[1] || !layouts[2] || !layouts[3]) return false;
  *problem = {*operation, *layouts[0], *layouts[1], *layouts[2], *layouts[3]};
  return true;
}

}  // namespace lorashard::emulator::cublaslt

using namespace lorashard::emulator::cublaslt;

extern "C" {

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes, cudaDataType type,
                                                 uint64_t rows, uint64_t cols, int64_t ld) {
  return initialise(layout, bytes, layout_of(type, rows, cols, ld));
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  return create(layout, layout_of(type, rows, cols, ld));
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy<Layout>(layout); }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  return set(inside<Layout>(layout), kLayoutFields, attribute, value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, void* value, size_t bytes,
                                                size_t* written) {
  return get(inside<Layout>(layout), kLayoutFields, attribute, {value, bytes, written});
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t bytes,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  return initialise(operation, bytes, operation_of(compute, scale));
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return create(operation, operation_of(compute, scale));
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { return destroy<Operation>(operation); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return set(inside<Operation>(operation), kOperationFields, attribute, value, bytes);
}
cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              void* value, size_t bytes, size_t* written) {
  return get(inside<Operation>(operation), kOperationFields, attribute, {value, bytes, written});
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t bytes) {
  return initialise(preference, bytes, Preference{});
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return create(preference, Preference{});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy<Preference>(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  return set(inside<Preference>(preference), kPreferenceFields, attribute, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, void* value,
                                                    size_t bytes, size_t* written) {
  return get(inside<Preference>(preference), kPreferenceFields, attribute, {value, bytes, written});
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void* value,
                                                    size_t bytes, size_t* written) {
  return get(inside<const Algorithm>(algorithm), kAlgorithmFields, attribute, {value, bytes, written});
}

}  // extern "C"
