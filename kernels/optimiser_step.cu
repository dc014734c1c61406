// One step of an optimiser in one pass over parameter, gradient and state; the formulas are in _rules.h.
// No multiplication is contracted with an addition (--fmad=false), so the bits are those of NumPy.
// c has n coefficients a replica, as n rows of `columns` (1 or R); blockIdx.y goes over the columns, `size` numbers each.

#define STEP(T) const T *x, const T *g, T *fresh, const T *c, T *m, T *v, i64 columns, i64 size

// 1. (V = N = 1) one thread a number. 2. (N = 1) 16 bytes at a time. 3. N packs in flight, on a grid that stays on the card.
template <class Rule, int states, class T, int V, int N> __device__ __forceinline__ void steps(STEP(T)) {
    const i64 stride = i64(gridDim.x) * blockDim.x * V;
    for (i64 r = blockIdx.y; r < columns; r += gridDim.y) {
        T kept[Rule::count];  // in registers
        for (int k = 0; k < Rule::count; k++) kept[k] = c[k * columns + r];
        const Coefficients<T> own = {kept};
        for (i64 first = (i64(blockIdx.x) * blockDim.x + threadIdx.x) * V; first < size; first += N * stride) {
            Pack<T, V> xs[N], gs[N], ms[N] = {}, vs[N] = {};
#pragma unroll
            for (int n = 0; n < N; n++) {
                const i64 at = r * size + first + n * stride;
                if (first + n * stride >= size) continue;
                xs[n] = load<T, V>(x + at);
                gs[n] = load<T, V>(g + at);
                if (states > 0) ms[n] = load<T, V>(m + at);
                if (states > 1) vs[n] = load<T, V>(v + at);
            }
#pragma unroll
            for (int n = 0; n < N; n++) {
                const i64 at = r * size + first + n * stride;
                if (first + n * stride >= size) continue;
                for (int k = 0; k < V; k++) xs[n].at[k] = Rule::step(xs[n].at[k], gs[n].at[k], ms[n].at[k], vs[n].at[k], own);
                store<T, V>(fresh + at, xs[n]);
                if (states > 0) store<T, V>(m + at, ms[n]);
                if (states > 1) store<T, V>(v + at, vs[n]);
            }
        }
    }
}

#define ENTRY(name, Rule, states, T, V, N)                                                                               \
    extern "C" __global__ void __launch_bounds__(256, 2) name(STEP(T)) {                                                    \
        steps<Rule, states, T, V, N>(x, g, fresh, c, m, v, columns, size);                                               \
    }
#define ENTRIES(rule, Rule, states, T, type, V)                                                                          \
    ENTRY(rule##_1_##type, Rule, states, T, 1, 1)                                                                        \
    ENTRY(rule##_2_##type, Rule, states, T, V, 1)                                                                        \
    ENTRY(rule##_3_##type, Rule, states, T, V, 2)
#define RULE(rule, Rule, states) ENTRIES(rule, Rule, states, float, f32, 4) ENTRIES(rule, Rule, states, double, f64, 2)

RULE(sgd, Sgd, 0)
RULE(heavy_ball, HeavyBall, 1)
RULE(nesterov, Nesterov, 1)
RULE(ema, Ema, 1)
RULE(adam, Adam, 2)
