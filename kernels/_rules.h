// The optimisers, a number at a time; the formulas are in optimiser_step.py. c has n rows of `columns` coefficients, one a replica.

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
