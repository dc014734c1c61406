// One step of an optimiser in one pass over parameter, gradient and state; the formulas are in optimiser_step.py.
// No multiplication is contracted with an addition (--fmad=false), so the bits are those of NumPy.
// c has n coefficients a replica, as n rows of `columns` (1 or R); blockIdx.y goes over the columns, `size` numbers each.

template <class T> struct Coefficients {
    const T *c;
    i64 columns, column;
    __device__ __forceinline__ T operator[](int k) const { return c[k * columns + column]; }
};

struct Sgd {
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &, T &, const Coefficients<T> &c) { return x - c[0] * g; }
};

struct HeavyBall {
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &v, T &, const Coefficients<T> &c) {
        v = c[1] * v + g;
        return x - c[0] * v;
    }
};

struct Nesterov {
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &v, T &, const Coefficients<T> &c) {
        v = c[1] * v + g;
        return x - c[0] * (c[1] * v + g);
    }
};

struct Ema {
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &m, T &, const Coefficients<T> &c) {
        m = c[1] * m + c[2] * g;
        return x - c[0] * m;
    }
};

struct Adam {  // rate, beta1, rest1, beta2, rest2, root, eps
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &m, T &v, const Coefficients<T> &c) {
        m = c[1] * m + c[2] * g;
        v = c[3] * v + c[4] * (g * g);
        return x - c[0] * (m / (sqrt(v) * c[5] + c[6]));
    }
};

#define STEP(T) const T *x, const T *g, T *fresh, const T *c, T *m, T *v, i64 columns, i64 size

// 1. (V = N = 1) one thread a number. 2. (N = 1) 16 bytes at a time. 3. N packs in flight, on a grid that stays on the card.
template <class Rule, int states, class T, int V, int N> __device__ __forceinline__ void steps(STEP(T)) {
    const i64 stride = i64(gridDim.x) * blockDim.x * V;
    for (i64 r = blockIdx.y; r < columns; r += gridDim.y) {
        const Coefficients<T> own = {c, columns, r};
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
