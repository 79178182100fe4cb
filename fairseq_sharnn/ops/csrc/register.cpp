// Names and arguments of the operators, for torch.ops.fairseq_sharnn. (Alone in its file: torch's header is slow.)
#include <torch/library.h>

#include "operators.h"

TORCH_LIBRARY(fairseq_sharnn, m) {
  m.def("dropout(Tensor x, float rate, int seed) -> Tensor");
  m.def("dropout_factors(int rows, int columns, float rate, int seed) -> Tensor", sharnn::dropout_factors);
  m.def("activate_and_fold(Tensor a, int width, float rate, int seed) -> Tensor");
  m.def("activate_and_fold_backward(Tensor grad, Tensor(a!) a, int width, float rate, int seed) -> ()");
  m.def("attend(Tensor query, Tensor[] segments, int heads, float rate, int seed) -> (Tensor, Tensor)");
  m.def(
      "attend_backward(Tensor grad, Tensor query, Tensor[] segments, Tensor out, Tensor lse, int heads, float rate, "
      "int seed) -> (Tensor, Tensor)");
  m.def("attend_phases(Tensor query, Tensor[] segments, int heads, float rate, int seed) -> Tensor");
  m.def(
      "attend_backward_phases(Tensor grad, Tensor query, Tensor[] segments, Tensor out, Tensor lse, int heads, "
      "float rate, int seed) -> Tensor");
  m.def(
      "step(Tensor x, Tensor[] weights, Tensor[] hidden, Tensor[] cell, Tensor(a!)[] blocks, int[] spans, int[] counts, "
      "int heads) -> (Tensor, Tensor)");
  m.def("project(Tensor x, Tensor weight, Tensor bias) -> Tensor");
  m.def("lstm(Tensor(a!) gates, Tensor weight, Tensor hidden, Tensor cell) -> (Tensor, Tensor)");
  m.def("lstm_backward(Tensor grad, Tensor(a!) gates, Tensor weight, Tensor cell) -> ()");
}

TORCH_LIBRARY_IMPL(fairseq_sharnn, CPU, m) {
  m.impl("dropout", sharnn::dropout);
  m.impl("activate_and_fold", sharnn::activate_and_fold);
  m.impl("activate_and_fold_backward", sharnn::activate_and_fold_backward);
  m.impl("attend", sharnn::attend);
  m.impl("attend_backward", sharnn::attend_backward);
  m.impl("attend_phases", sharnn::attend_phases);
  m.impl("attend_backward_phases", sharnn::attend_backward_phases);
  m.impl("step", sharnn::step);
  m.impl("project", sharnn::project);
  m.impl("lstm", sharnn::lstm);
  m.impl("lstm_backward", sharnn::lstm_backward);
}
