// The optimisers, a number at a time; the formulas and the order of the coefficients are in optimiser_step.py.

template <class T> struct Coefficients {  // of one replica
    const T *c;
    __device__ __forceinline__ T operator[](int k) const { return c[k]; }
};

struct Sgd {
    static const int count = 1;  // coefficients
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &, T &, const Coefficients<T> &c) { return x - c[0] * g; }
};

struct HeavyBall {
    static const int count = 2;
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &v, T &, const Coefficients<T> &c) {
        v = c[1] * v + g;
        return x - c[0] * v;
    }
};

struct Nesterov {
    static const int count = 2;
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &v, T &, const Coefficients<T> &c) {
        v = c[1] * v + g;
        return x - c[0] * (c[1] * v + g);
    }
};

struct Ema {
    static const int count = 3;
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &m, T &, const Coefficients<T> &c) {
        m = c[1] * m + c[2] * g;
        return x - c[0] * m;
    }
};

struct Adam {  // rate, beta1, rest1, beta2, rest2, root, eps
    static const int count = 7;
    template <class T> __device__ __forceinline__ static T step(T x, T g, T &m, T &v, const Coefficients<T> &c) {
        m = c[1] * m + c[2] * g;
        v = c[3] * v + c[4] * (g * g);
        return x - c[0] * (m / (sqrt(v) * c[5] + c[6]));
    }
};
