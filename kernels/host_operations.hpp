// The host meanings of the operations whose contracts are in norm, rotary, attention, elementwise, embedding, loss
// and adamw .hpp. The function of the contract has checked the arguments.
#pragma once

#include "kernels/adamw.hpp"
#include "kernels/attention.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/loss.hpp"
#include "kernels/norm.hpp"
#include "kernels/rotary.hpp"

namespace lorashard::kernels {

void layer_norm_host(const LayerNormForward& args);
void layer_norm_host(const LayerNormBackward& args);

void rms_norm_host(const RmsNormForward& args);
void rms_norm_host(const RmsNormBackward& args);
void rotary_host(const Rotary& args);

void attention_host(const AttentionForward& args);
void attention_host(const AttentionBackward& args);
void attention_host(const AttentionStep& args);

void fill_host(Matrix m, float value);
void copy_host(ConstMatrix from, Matrix to);
void add_host(ConstMatrix x, Matrix y, float scale);
void add_residual_host(ConstMatrix x, ConstMatrix residual, ConstMatrix bias, Matrix y);
void gelu_host(ConstMatrix x, Matrix y);
void gelu_backward_host(ConstMatrix x, ConstMatrix dy, Matrix dx);
void swiglu_host(ConstMatrix gate_up, Matrix y);
void swiglu_backward_host(ConstMatrix gate_up, ConstMatrix dy, Matrix dgate_up);
void bias_gradient_host(ConstMatrix dy, Matrix db);
void dropout_host(const DropoutMask& mask, ConstMatrix x, Matrix y);
void dropout_add_host(const DropoutMask& mask, ConstMatrix x, Matrix y);
void fill_normal_host(const NormalFill& args, Matrix m);

void embedding_host(const EmbeddingForward& args);
void embedding_host(const EmbeddingBackward& args);
void add_positions_host(ConstMatrix table, Index first_row, Index length, Matrix y);
void positions_gradient_host(ConstMatrix dy, Index first_row, Index length, Matrix dtable);

void shard_maximum_host(ConstMatrix logits, Matrix maximum);
void shard_sums_host(const ShardSums& args);
void loss_and_gradient_host(const LossAndGradient& args);
void add_sum_host(ConstMatrix m, Matrix total);

void adamw_host(const AdamW& args);
void add_sum_of_squares_host(ConstMatrix m, Matrix total);
void finish_step_host(const StepOutcome& args);

}  // namespace lorashard::kernels
