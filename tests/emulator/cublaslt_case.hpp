// A product on the emulated cuBLASLt beside plain loops in double, for its tests.
#pragma once

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

namespace lorashard::emulator {

// Values in device memory and the same ones on the host, as doubles. Fresh memory counts as never written.
class DeviceValues {
 public:
  DeviceValues(cudaDataType type, std::size_t count) : type_(type), count_(count) {
    EXPECT_EQ(cudaMalloc(&data_, count * size()), cudaSuccess);
  }
  DeviceValues(const DeviceValues&) = delete;
  DeviceValues& operator=(const DeviceValues&) = delete;
  ~DeviceValues() { cudaFree(data_); }

  cudaDataType type() const { return type_; }
  std::size_t size() const { return type_ == CUDA_R_16BF ? 2 : 4; }
  void* at(std::size_t first = 0) const { return static_cast<char*>(data_) + first * size(); }

  void write(const std::vector<double>& values) {
    std::vector<char> raw(count_ * size());
    for (std::size_t i = 0; i < count_; ++i)
      if (type_ == CUDA_R_16BF)
        reinterpret_cast<__nv_bfloat16*>(raw.data())[i] = __double2bfloat16(values[i]);
      else
        reinterpret_cast<float*>(raw.data())[i] = static_cast<float>(values[i]);
    EXPECT_EQ(cudaMemcpy(data_, raw.data(), raw.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<double> read() const {
    std::vector<char> raw(count_ * size());
    EXPECT_EQ(cudaMemcpy(raw.data(), data_, raw.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    std::vector<double> values(count_);
    for (std::size_t i = 0; i < count_; ++i)
      values[i] = type_ == CUDA_R_16BF
                      ? static_cast<double>(__bfloat162float(reinterpret_cast<__nv_bfloat16*>(raw.data())[i]))
                      : reinterpret_cast<float*>(raw.data())[i];
    return values;
  }

 private:
  cudaDataType type_;
  std::size_t count_;
  void* data_ = nullptr;
};

// Small integers, so that products and sums of them are exact in every type used here.
inline std::vector<double> small_integers(std::size_t count, int seed) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = static_cast<double>((i * 7 + i / 5 + static_cast<std::size_t>(seed) * 3) % 5) - 2.0;
  return values;
}

// Extents of D (m,n) = op(A) op(B), leading dimensions with a gap; matrices filled with small integers.
struct Case {
  int m = 5, n = 7, k = 6, batch = 1;
  bool transpose_a = false, transpose_b = false;
  cudaDataType input = CUDA_R_32F, output = CUDA_R_32F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  float alpha = 1.0f, beta = 0.0f;
  int gap = 3;

  int rows_a() const { return transpose_a ? k : m; }
  int rows_b() const { return transpose_b ? n : k; }
  int ld_a() const { return rows_a() + gap; }
  int ld_b() const { return rows_b() + gap; }
  int ld_d() const { return m + gap; }
  int ld_aux() const { return (m + 7) / 8 * 8; }
  std::size_t stride_a() const { return static_cast<std::size_t>(ld_a() * (transpose_a ? m : k)) + 4; }
  std::size_t stride_b() const { return static_cast<std::size_t>(ld_b() * (transpose_b ? k : n)) + 4; }
  std::size_t stride_d() const { return static_cast<std::size_t>(ld_d() * n) + 4; }
};

struct Descriptors {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t op = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;

  explicit Descriptors(const Case& c) {
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&op, c.compute, CUDA_R_32F);
    const std::int32_t ta = c.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, tb = c.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(CUBLASLT_MATMUL_DESC_TRANSA, ta);
    set(CUBLASLT_MATMUL_DESC_TRANSB, tb);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, c.epilogue);
    layout(&a, c.input, c.rows_a(), c.transpose_a ? c.m : c.k, c.ld_a(), c.batch, c.stride_a());
    layout(&b, c.input, c.rows_b(), c.transpose_b ? c.k : c.n, c.ld_b(), c.batch, c.stride_b());
    layout(&d, c.output, c.m, c.n, c.ld_d(), c.batch, c.stride_d());
    cublasLtMatmulPreferenceCreate(&preference);
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  ~Descriptors() {
    cublasLtMatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t each : {a, b, d}) cublasLtMatrixLayoutDestroy(each);
    cublasLtMatmulDescDestroy(op);
    cublasLtDestroy(handle);
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(op, attribute, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void set(cublasLtMatrixLayout_t of, cublasLtMatrixLayoutAttribute_t attribute, T value) {
    EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(of, attribute, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
              CUBLAS_STATUS_SUCCESS);
  }
  cublasStatus_t choose(cublasLtMatmulHeuristicResult_t* result, int* count) {
    return cublasLtMatmulAlgoGetHeuristic(handle, op, a, b, d, d, preference, 1, result, count);
  }

 private:
  void layout(cublasLtMatrixLayout_t* made, cudaDataType type, int rows, int cols, int ld, std::int32_t batch,
              std::size_t stride) {
    cublasLtMatrixLayoutCreate(made, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols), ld);
    set(*made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, batch);
    set(*made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, static_cast<std::int64_t>(stride));
  }
};

// The buffers of a case, and the product both ways.
struct Buffers {
  explicit Buffers(const Case& which)
      : c(which),
        a_values_(small_integers(c.stride_a() * c.batch, 1)),
        b_values_(small_integers(c.stride_b() * c.batch, 2)),
        old_values_(small_integers(c.stride_d() * c.batch, 3)),
        a(c.input, c.stride_a() * c.batch),
        b(c.input, c.stride_b() * c.batch),
        old(c.output, c.stride_d() * c.batch),
        d(c.output, c.stride_d() * c.batch),
        bias(c.output, static_cast<std::size_t>(std::max(c.m, c.n))),
        aux(c.output, static_cast<std::size_t>(c.ld_aux() * c.n)) {
    a.write(a_values_);
    b.write(b_values_);
    old.write(old_values_);
    d.write(small_integers(c.stride_d() * c.batch, 4));
    bias.write(small_integers(static_cast<std::size_t>(std::max(c.m, c.n)), 5));
    aux.write(small_integers(static_cast<std::size_t>(c.ld_aux() * c.n), 6));
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  }
  ~Buffers() { cudaStreamDestroy(stream); }

  // A result is chosen for 16-byte aligned buffers, without workspace.
  cublasStatus_t run(Descriptors& with) const {
    cublasStatus_t status = cublasLtMatmul(with.handle, with.op, &c.alpha, a.at(), with.a, b.at(), with.b, &c.beta,
                                           old.at(), with.d, d.at(), with.d, nullptr, nullptr, 0, stream);
    if (status == CUBLAS_STATUS_SUCCESS) {
      EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    }
    return status;
  }

  double a_at(int i, int l, int batch = 0) const {
    return at(a_values_, c.transpose_a ? l + i * c.ld_a() : i + l * c.ld_a(), c.stride_a() * batch);
  }
  double b_at(int l, int j, int batch = 0) const {
    return at(b_values_, c.transpose_b ? j + l * c.ld_b() : l + j * c.ld_b(), c.stride_b() * batch);
  }
  // alpha op(A) op(B) + beta C.
  double expected(int i, int j, int batch = 0) const {
    double sum = 0.0;
    for (int l = 0; l < c.k; ++l) sum += a_at(i, l, batch) * b_at(l, j, batch);
    return c.alpha * sum + c.beta * at(old_values_, i + j * c.ld_d(), c.stride_d() * batch);
  }

  const Case c;

 private:
  const std::vector<double> a_values_, b_values_, old_values_;

 public:
  DeviceValues a, b, old, d, bias, aux;
  cudaStream_t stream = nullptr;

 private:
  static double at(const std::vector<double>& values, int i, std::size_t first) {
    return values[first + static_cast<std::size_t>(i)];
  }
};

}  // namespace lorashard::emulator
