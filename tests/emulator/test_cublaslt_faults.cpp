// What the emulated cuBLASLt refuses or reports, each beside the mended call.
#include "tests/emulator/cublaslt_case.hpp"
#include "tests/emulator/queue.hpp"

namespace lorashard::emulator {
namespace {

std::string faults() {
  cudaDeviceSynchronize();
  std::string lines;
  for (const std::string& line : take_faults()) lines += line + "\n";
  return lines;
}

cublasStatus_t status_of(const Case& c) {
  Descriptors descriptors(c);
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  const cublasStatus_t status = descriptors.choose(&result, &count);
  EXPECT_EQ(count, status == CUBLAS_STATUS_SUCCESS ? 1 : 0);
  return status;
}

TEST(CublasLtFaults, TypesThatTheLibraryHasNot) {
  Case c;
  EXPECT_EQ(status_of(c), CUBLAS_STATUS_SUCCESS);
  c.output = CUDA_R_16BF;  // of f32 operands
  EXPECT_EQ(status_of(c), CUBLAS_STATUS_NOT_SUPPORTED);
  c.input = CUDA_R_16BF;
  EXPECT_EQ(status_of(c), CUBLAS_STATUS_SUCCESS);
  c.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  EXPECT_EQ(status_of(c), CUBLAS_STATUS_NOT_SUPPORTED);
  c = {.compute = CUBLAS_COMPUTE_16F};
  EXPECT_EQ(status_of(c), CUBLAS_STATUS_NOT_SUPPORTED);

  Descriptors mixed({.input = CUDA_R_16BF});
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  mixed.set(mixed.b, CUBLASLT_MATRIX_LAYOUT_TYPE, std::uint32_t{CUDA_R_32F});
  EXPECT_EQ(mixed.choose(&result, &count), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST(CublasLtFaults, ExtentsAndLeadingDimensions) {
  const Case c;
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  {
    Descriptors descriptors(c);
    descriptors.set(descriptors.a, CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{c.m - 1});
    EXPECT_EQ(descriptors.choose(&result, &count), CUBLAS_STATUS_INVALID_VALUE);
  }
  {
    Descriptors descriptors(c);
    descriptors.set(descriptors.b, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t(c.k - 1));
    EXPECT_EQ(descriptors.choose(&result, &count), CUBLAS_STATUS_INVALID_VALUE);
  }
  {
    Descriptors descriptors(c);
    descriptors.set(descriptors.b, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int32_t{2});
    EXPECT_EQ(descriptors.choose(&result, &count), CUBLAS_STATUS_INVALID_VALUE);
  }
}

TEST(CublasLtFaults, Epilogues) {
  Case c;
  c.epilogue = CUBLASLT_EPILOGUE_GELU_AUX;
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  Descriptors descriptors(c);
  descriptors.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{9});  // no multiple of 8
  EXPECT_EQ(descriptors.choose(&result, &count), CUBLAS_STATUS_INVALID_VALUE);
  descriptors.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{8});
  EXPECT_EQ(descriptors.choose(&result, &count), CUBLAS_STATUS_SUCCESS);
  descriptors.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, std::int32_t{CUDA_R_16BF});
  EXPECT_EQ(descriptors.choose(&result, &count), CUBLAS_STATUS_INVALID_VALUE);

  c.epilogue = CUBLASLT_EPILOGUE_BIAS;
  Descriptors with_bias(c);
  Buffers buffers(c);
  EXPECT_EQ(buffers.run(with_bias), CUBLAS_STATUS_INVALID_VALUE);  // no pointer
  with_bias.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, buffers.bias.at());
  EXPECT_EQ(buffers.run(with_bias), CUBLAS_STATUS_SUCCESS);
  with_bias.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, std::int32_t{CUDA_R_16BF});
  EXPECT_EQ(buffers.run(with_bias), CUBLAS_STATUS_NOT_SUPPORTED);
  c.epilogue = CUBLASLT_EPILOGUE_RELU;
  EXPECT_EQ(status_of(c), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST(CublasLtFaults, Attributes) {
  Descriptors descriptors({});
  std::int64_t ld = 40, got = 0;
  std::size_t written = 0;
  EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(descriptors.a, CUBLASLT_MATRIX_LAYOUT_LD, &ld, 4),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(descriptors.a, CUBLASLT_MATRIX_LAYOUT_LD, &ld, 8), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatrixLayoutGetAttribute(descriptors.a, CUBLASLT_MATRIX_LAYOUT_LD, &got, 8, &written),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(got, 40);
  EXPECT_EQ(written, 8u);
  EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(descriptors.a, CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, &ld, 8),
            CUBLAS_STATUS_NOT_SUPPORTED);
  cublasLtMatmulDescOpaque_t never_initialised = {};
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(&never_initialised, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &ld, 8),
            CUBLAS_STATUS_INVALID_VALUE);
}

cublasStatus_t multiply(Descriptors& with, const Buffers& buffers, const cublasLtMatmulHeuristicResult_t& chosen,
                        void* workspace, std::size_t bytes) {
  return cublasLtMatmul(with.handle, with.op, &buffers.c.alpha, buffers.a.at(), with.a, buffers.b.at(), with.b,
                        &buffers.c.beta, buffers.d.at(), with.d, buffers.d.at(), with.d, &chosen.algo, workspace, bytes,
                        buffers.stream);
}

TEST(CublasLtFaults, AlignmentThatWasPromised) {
  Case c;
  c.gap = 0, c.m = c.k = 8;
  Descriptors descriptors(c);
  Buffers buffers(c);
  DeviceValues larger(CUDA_R_32F, c.stride_a() + 1);
  larger.write(small_integers(c.stride_a() + 1, 1));
  const auto run = [&](const cublasLtMatmulHeuristicResult_t& chosen) {
    return cublasLtMatmul(descriptors.handle, descriptors.op, &c.alpha, larger.at(1), descriptors.a, buffers.b.at(),
                          descriptors.b, &c.beta, buffers.d.at(), descriptors.d, buffers.d.at(), descriptors.d,
                          &chosen.algo, nullptr, 0, buffers.stream);
  };
  cublasLtMatmulHeuristicResult_t chosen;
  int count = 0;
  ASSERT_EQ(descriptors.choose(&chosen, &count), CUBLAS_STATUS_SUCCESS);  // 256 bytes by default
  EXPECT_EQ(run(chosen), CUBLAS_STATUS_NOT_SUPPORTED);
  descriptors.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, std::uint32_t{4});
  ASSERT_EQ(descriptors.choose(&chosen, &count), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(chosen), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(faults(), "");
}

TEST(CublasLtFaults, WorkspaceTooSmallOrNotAllowed) {
  const Case c;
  Descriptors descriptors(c);
  Buffers buffers(c);
  cublasLtMatmulHeuristicResult_t chosen;
  int count = 0;
  ASSERT_EQ(descriptors.choose(&chosen, &count), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(chosen.workspaceSize, 0u);  // none is allowed by default
  descriptors.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{1} << 20);
  ASSERT_EQ(descriptors.choose(&chosen, &count), CUBLAS_STATUS_SUCCESS);
  ASSERT_GT(chosen.workspaceSize, 0u);
  DeviceValues workspace(CUDA_R_32F, 1024);
  EXPECT_EQ(multiply(descriptors, buffers, chosen, nullptr, 0), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(multiply(descriptors, buffers, chosen, workspace.at(), chosen.workspaceSize - 1),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(multiply(descriptors, buffers, chosen, workspace.at(4), chosen.workspaceSize), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(multiply(descriptors, buffers, chosen, workspace.at(), chosen.workspaceSize), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(faults(), "");
  descriptors.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  ASSERT_EQ(descriptors.choose(&chosen, &count), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(chosen.workspaceSize, 0u);
}

// Two streams multiply with one workspace; only with an event between them may they.
TEST(CublasLtFaults, WorkspaceSharedByTwoStreams) {
  collect_faults();
  for (const bool mended : {false, true}) {
    const Case c;
    Descriptors descriptors(c);
    Buffers first(c), second(c);
    DeviceValues workspace(CUDA_R_32F, 1024);
    cublasLtMatmulHeuristicResult_t chosen;
    int count = 0;
    descriptors.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{4096});
    ASSERT_EQ(descriptors.choose(&chosen, &count), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(multiply(descriptors, first, chosen, workspace.at(), 4096), CUBLAS_STATUS_SUCCESS);
    cudaEvent_t done;
    cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
    cudaEventRecord(done, first.stream);
    if (mended) cudaStreamWaitEvent(second.stream, done, 0);
    ASSERT_EQ(multiply(descriptors, second, chosen, workspace.at(), 4096), CUBLAS_STATUS_SUCCESS);
    const std::string lines = faults();
    EXPECT_EQ(lines.find("cublasLtMatmul 5x7x6") != std::string::npos, !mended) << lines;
    cudaEventDestroy(done);
  }
}

TEST(CublasLtFaults, OperandsThatWereNeverWritten) {
  collect_faults();
  for (const bool mended : {false, true}) {
    Case c;
    c.beta = mended ? 0.0f : 1.0f;  // C is read only then
    Descriptors descriptors(c);
    Buffers buffers(c);
    DeviceValues result(c.output, c.stride_d());
    ASSERT_EQ(cublasLtMatmul(descriptors.handle, descriptors.op, &c.alpha, buffers.a.at(), descriptors.a,
                             buffers.b.at(), descriptors.b, &c.beta, result.at(), descriptors.d, result.at(),
                             descriptors.d, nullptr, nullptr, 0, buffers.stream),
              CUBLAS_STATUS_SUCCESS);
    const std::string lines = faults();
    EXPECT_EQ(lines.find("cublasLtMatmul") != std::string::npos, !mended) << lines;
  }
}

TEST(CublasLtFaults, ResultOverAnOperand) {
  collect_faults();
  Case c;
  c.m = c.n = c.k = 4;
  Descriptors descriptors(c);
  Buffers buffers(c);
  cublasLtMatmul(descriptors.handle, descriptors.op, &c.alpha, buffers.a.at(), descriptors.a, buffers.b.at(),
                 descriptors.b, &c.beta, buffers.a.at(), descriptors.d, buffers.a.at(), descriptors.d, nullptr, nullptr,
                 0, buffers.stream);
  EXPECT_NE(faults().find("the result is written over an operand"), std::string::npos);
}

}  // namespace
}  // namespace lorashard::emulator
