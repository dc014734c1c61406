// y = relu((z + skip) + b) with a packed mask and counts per unit: the steps of bias_relu_forward.cu, which stands before this
// text, with one more array to read.

ENTRIES(residual_relu, float, f32, 4, true)
ENTRIES(residual_relu, double, f64, 2, true)
ENTRIES(residual_relu, f16, f16, 8, true)
ENTRIES(residual_relu, bf16, bf16, 8, true)
