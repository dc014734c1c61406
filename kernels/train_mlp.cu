// A whole training run: a block a replica, many steps a launch. Formulas, shapes and bounds: train_mlp.py.
// Parameters, running statistics, optimiser state and activations lie side by side in one row of cells in shared memory. Where
// they do not fit, the state stays in `kept` in global memory (`beside` is false), and if that is not enough, all the others are
// in a row of `memory` (`here` is false). A sum is made by one thread or, for predictions, by one warp, so that its order
// depends neither on the replicas nor on the number of threads. Texts before this one: _rules.h, _products.h.
//
// W has a row for each input, and the bias below these; activations and gradients have a row for each unit, along which the
// minibatch lies, and activations a row of ones below these, of which the bias is the weight. Behind a row's numbers there are
// zeros, which add nothing to any sum.

// What `table` says: sizes, then offsets of cells, then a line for each hidden layer.
enum { INPUTS, ROWS_OF_DATA, ROWS_TO_MEASURE, BATCH, LAYERS, RULE, RESIDUAL, NORM, PARAMETERS, UNITS, RECORDS, CELLS, KEPT,
       LAST_W, AT_RUNNING, AT_STATES, AT_C, AT_E, AT_X, AT_D, SIZES };
enum { IN, OUT, W, MEAN, FIRST, R, H, HAT, ROOT, LINE };
enum { SGD, HEAVY_BALL, NESTEROV, EMA, ADAM };
enum { LR, BETA, BETA2, EPSILON, GAMMA, DELTA, SETTINGS };

const double NORM_EPS = 1e-5, MOMENTUM = 0.1;

#define EACH(i, n) for (int i = threadIdx.x; i < (n); i += blockDim.x)

// Numbers from row to row: an odd multiple of four, so that of eight neighbouring rows each lies in other banks.
__device__ __forceinline__ int padded(int n) { return 4 * ((n + 3) / 4 | 1); }

// Philox4x32-10 (philox.py): four rows of the minibatch `step`.
__device__ __forceinline__ void draw(u32 *rows, u64 seed, u64 step, int block, int batch, u64 n) {
    u32 c0 = u32(step), c1 = u32(block), c2 = 0, c3 = 0, k0 = u32(seed), k1 = u32(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const u64 p = 0xD2511F53ull * c0, q = 0xCD9E8D57ull * c2;
        c0 = u32(q >> 32) ^ c1 ^ k0, c1 = u32(q), c2 = u32(p >> 32) ^ c3 ^ k1, c3 = u32(p);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    const u32 drawn[4] = {c0, c1, c2, c3};
    for (int k = 0; k < 4 && 4 * block + k < batch; k++) rows[4 * block + k] = u32(drawn[k] * n >> 32);
}

__device__ __forceinline__ double power(double base, u64 n) {
    double product = 1;
    for (; n; n >>= 1, base *= base)
        if (n & 1) product *= base;
    return product;
}

// Move the parameters cell[0], cell[step], ... before `end` against their gradients, at most four. `first` is the state of the
// first, and behind the state of all `parameters` lies the second, if there is one.
template <class Rule, int states, class T>
__device__ __forceinline__ void update(
    const T *coefficients, int parameters, T *first, T *cell, int step, const T *end, Pack<T, 4> g
) {
    T kept[Rule::count];
    for (int k = 0; k < Rule::count; k++) kept[k] = coefficients[k];
    const Coefficients<T> c = {sizeof(T) == 4 ? kept : coefficients};  // two registers for each would be too many
#pragma unroll 1
    for (int v = 0; v < 4 && cell < end; v++, cell += step, first += step) {
        T *second = first + parameters, m = states > 0 ? *first : T(0), s = states > 1 ? *second : T(0);
        *cell = Rule::step(*cell, g.at[0], m, s, c);
        if (states > 0) *first = m;
        if (states > 1) *second = s;
        g = {g.at[1], g.at[2], g.at[3]};
    }
}

template <class T, bool here> struct Training {
    typedef Pack<T, 4> Four;
    static const int UNROLLED = here && sizeof(T) == 4 ? 2 : 1;  // as far as the registers go
    const i64 *table, *line;
    const double *settings;
    T *cells;       // of this replica: parameters, running statistics, states, then what a step needs
    T *states;      // as many numbers as there are parameters, or twice as many
    int n, stride;  // rows of a minibatch, numbers from row to row of activations

    __device__ __forceinline__ double *errors() const { return reinterpret_cast<double *>(arena); }  // (n,), of the measurement
    __device__ __forceinline__ u32 *rows() const { return reinterpret_cast<u32 *>(arena + 8 * n); }  // (n,), of the minibatch
    __device__ __forceinline__ double setting(int which) const { return settings[i64(blockIdx.x) * SETTINGS + which]; }
    __device__ __forceinline__ int size(int what) const { return int(table[what]); }
    __device__ __forceinline__ T *at(int what) const { return cells + table[what]; }
    __device__ __forceinline__ void layer(int l) { line = table + SIZES + l * LINE; }
    __device__ __forceinline__ int of(int what) const { return int(line[what]); }
    __device__ __forceinline__ T *own(int what) const { return cells + line[what]; }
    __device__ __forceinline__ T *scale() const { return own(W) + (of(IN) + 1) * padded(of(OUT)); }  // then the shift

    // The input of the hidden layer l.
    __device__ __forceinline__ T *input(int l) const {
        if (l == 0) return at(AT_X);
        const i64 *before = table + SIZES + (l - 1) * LINE;
        return cells + (table[RESIDUAL] && l > 1 ? before[H] : before[R]);
    }

    // use(x[i], y[i]) for `count` rows, four at a time.
    template <class Use> __device__ __forceinline__ static void look(int count, const T *x, const T *y, Use use) {
#pragma unroll 1
        for (int i = 0; i < count; i += 4) {
            const Four a = load<T, 4>(x + i), b = load<T, 4>(y + i);
            for (int v = 0; v < 4 && i + v < count; v++) use(a.at[v], b.at[v]);
        }
    }

    // y[i] = make(x[i], y[i]) for the rows of the minibatch.
    template <class Make> __device__ __forceinline__ void change(const T *x, T *y, Make make) const {
#pragma unroll 1
        for (int i = 0; i < n; i += 4) {
            const Four a = load<T, 4>(x + i);
            Four b = load<T, 4>(y + i);
            for (int v = 0; v < 4 && i + v < n; v++) b.at[v] = make(a.at[v], b.at[v]);
            store<T, 4>(y + i, b);
        }
    }

    __device__ __forceinline__ void move(T *cell, int step, const T *end, const Four &g) const {
        const int parameters = size(PARAMETERS);
        T *c = at(AT_C), *first = states + (cell - cells);
        switch (size(RULE)) {
            case SGD: return update<Sgd, 0>(c, parameters, first, cell, step, end, g);
            case HEAVY_BALL: return update<HeavyBall, 1>(c, parameters, first, cell, step, end, g);
            case NESTEROV: return update<Nesterov, 1>(c, parameters, first, cell, step, end, g);
            case EMA: return update<Ema, 1>(c, parameters, first, cell, step, end, g);
            default: return update<Adam, 2>(c, parameters, first, cell, step, end, g);
        }
    }

    // The coefficients of the update number step + 1, by two threads side by side, of which one says `second`.
    __device__ __forceinline__ void coefficients(u64 step, bool second) const {
        T *c = at(AT_C);
        const double beta = setting(second ? BETA2 : BETA), rest = size(RULE) == ADAM ? 1 - power(beta, step + 1) : 1;
        if (second)
            c[3] = T(beta), c[4] = T(1 - beta), c[5] = T(1 / sqrt(rest)), c[6] = T(setting(EPSILON));
        else
            c[0] = T(setting(LR) / rest), c[1] = T(beta), c[2] = T(1 - beta);
    }

    // Rows of X to x, where an input is a row: those of the minibatch, or the first `count`.
    __device__ __forceinline__ void gather(const T *X, int count, bool drawn) const {
        const int inputs = size(INPUTS);
        const float inverse = 1.0f / inputs;
        T *x = at(AT_X);
        EACH(k, count * inputs) {
            const int i = int((k + 0.5f) * inverse), c = k - i * inputs;  // k / inputs and the rest
            x[c * stride + i] = X[i64(drawn ? rows()[i] : i) * inputs + c];
        }
    }

    // z = h W + b, and relu at once where no batch norm comes between.
    template <bool rectify> __device__ __forceinline__ void affine(int l) const {
        const int out = of(OUT);
        Four *z = reinterpret_cast<Four *>(own(R));  // by fours, or the compiler writes them one by one
        const int N = sizeof(T) == 4 ? 8 : 4;
        const Side<T, false, N> weights = {own(W), padded(out), out};
        product<UNROLLED>(weights, Side<T, false>{input(l), stride, n}, of(IN) + 1, [&](int j, int i, Four(&sums)[N]) {
            if (i + 4 > n)
                for (int k = 0; k < 4 * N; k++) sums[k / 4].at[k % 4] = i + k % 4 < n ? sums[k / 4].at[k % 4] : T(0);
#pragma unroll
            for (int u = 0; u < N && j + u < out; u++) {
                for (int v = 0; v < 4; v++) sums[u].at[v] = rectify ? relu(sums[u].at[v]) : sums[u].at[v];
                z[(j + u) * (stride / 4) + i / 4] = sums[u];
            }
        });
    }

    // Batch norm and relu, a thread a unit, by the batch's own statistics, which the running ones follow, or by the running ones.
    __device__ __forceinline__ void normalise(bool training) const {
        const int out = of(OUT);
        const T *scales = scale(), *shifts = scales + padded(out);
        T *means = at(AT_RUNNING) + of(MEAN), *variances = means + out;
        EACH(j, out) {
            T *z = own(R) + j * stride, *hat = own(HAT) + j * stride, sum = 0, squares = 0;
            const T scale = scales[j], shift = shifts[j], mean = means[j], variance = variances[j];
            if (!training) {
                const T factor = scale / sqrt(variance + T(NORM_EPS));
                change(z, z, [&](T a, T) { return relu((a - mean) * factor + shift); });
                continue;
            }
            look(n, z, z, [&](T a, T) { sum += a; });
            const T middle = sum / T(n);
            look(n, z, z, [&](T a, T) { squares += (a - middle) * (a - middle); });
            const T spread = squares / T(n), root = sqrt(spread + T(NORM_EPS));
            means[j] = T(1 - MOMENTUM) * mean + T(MOMENTUM) * middle;
            variances[j] = T(1 - MOMENTUM) * variance + T(MOMENTUM) * (T(double(n) / (n - 1)) * spread);
            own(ROOT)[j] = root;
            change(z, hat, [&](T a, T) { return (a - middle) / root; });
            change(hat, z, [&](T a, T) { return relu(scale * a + shift); });
        }
    }

    // All layers for the rows in x. Afterwards e, which has the targets in training, holds the loss's derivatives, else the
    // predictions. Ends with a barrier.
    __device__ __forceinline__ void forward(bool training) {
        for (int l = 0; l < size(LAYERS); l++) {
            layer(l);
            size(NORM) ? affine<false>(l) : affine<true>(l);
            __syncthreads();
            if (size(NORM)) {
                normalise(training);
                __syncthreads();
            }
            if (size(RESIDUAL) && l) {
                EACH(k, of(OUT) * stride) own(H)[k] = input(l)[k] + own(R)[k];
                __syncthreads();
            }
        }
        const int units = of(OUT), lane = threadIdx.x % 32;
        const T *h = input(size(LAYERS)), *w = at(LAST_W), share = T(2) / T(n);
        T *e = at(AT_E);
        for (int first = threadIdx.x / 32 * 4; first < n; first += blockDim.x / 32 * 4) {  // a warp four rows
            Four sums = {};
#pragma unroll UNROLLED * UNROLLED
            for (int j = lane; j <= units; j += 32) {
                const Four four = load<T, 4>(h + j * stride + first);
                for (int v = 0; v < 4; v++) sums.at[v] += four.at[v] * w[j];
            }
            const T prediction = sum_lanes(sums);
            const int i = first + lane / 8;
            if (lane % 8 == 0 && i < n) e[i] = training ? (prediction - e[i]) * share : prediction;
        }
        __syncthreads();
    }

    // From the loss's derivatives e to the last hidden layer, and the output's own update, a thread a unit.
    __device__ __forceinline__ void backward_output() const {
        const int units = of(OUT);
        const bool residual = size(RESIDUAL);
        const T *e = at(AT_E), *h = input(size(LAYERS));
        T *w = at(LAST_W), *r = own(R), *D = at(AT_D);
        EACH(j, units + 1) {
            const T weight = w[j];
            T g = 0;
#pragma unroll UNROLLED * UNROLLED
            for (int i = 0; i < n; i += 4) {
                const Four error = load<T, 4>(e + i), y = load<T, 4>(h + j * stride + i);
                Four d, dz = residual ? load<T, 4>(r + j * stride + i) : y;
                for (int v = 0; v < 4; v++) {
                    g += error.at[v] * y.at[v];
                    d.at[v] = error.at[v] * weight;
                    dz.at[v] = dz.at[v] > T(0) ? d.at[v] : T(0);
                }
                if (j == units) continue;  // the ones stay
                store<T, 4>(r + j * stride + i, dz);
                if (residual) store<T, 4>(D + j * stride + i, d);
            }
            move(w + j, 1, w + j + 1, {g});
        }
        __syncthreads();
    }

    // Through batch norm, in place; scale and shift move.
    __device__ __forceinline__ void backward_norm() const {
        const int out = of(OUT);
        T *scales = scale(), *shifts = scales + padded(out);
        EACH(j, out) {
            T *dz = own(R) + j * stride, d_scale = 0, d_shift = 0;
            const T *hat = own(HAT) + j * stride;
            look(n, dz, hat, [&](T d, T unit) { d_scale += d * unit, d_shift += d; });
            const T factor = scales[j] / own(ROOT)[j], by_scale = d_scale / T(n), by_shift = d_shift / T(n);
            change(hat, dz, [&](T unit, T d) { return factor * (d - by_shift - unit * by_scale); });
            move(scales + j, 1, scales + j + 1, {d_scale});
            move(shifts + j, 1, shifts + j + 1, {d_shift});
        }
        __syncthreads();
    }

    // The gradient of W and b, which move at once, by the thread that has it.
    template <int N> __device__ __forceinline__ void descend(int l) const {
        const int in = of(IN), across = padded(of(OUT));
        const bool norm = size(NORM);
        T *w = own(W);
        const Side<T, true, N> inputs = {input(l), stride, in + 1};
        const Side<T, true> units = {own(R), stride, of(OUT)};
        product<UNROLLED>(inputs, units, n, [&](int i, int j, Four(&sums)[N]) {
#pragma unroll 1
            for (int u = 0; u < N && i <= in; u++, i += inputs.step()) {
                if (norm && i == in) sums[0] = {};  // the exact gradient of a bias before batch norm is 0
                move(w + i * across + j, units.step(), w + i * across + units.size, sums[0]);
                for (int v = 1; v < N; v++) sums[v - 1] = sums[v];  // registers have no index
            }
        });
    }

    // One hidden layer back: D, the gradient of its input (which in residual nets has that of the layer's output in it, else
    // zeros), then its update, then the mask of the layer below.
    __device__ __forceinline__ void backward_layer(int l) {
        const int in = of(IN), out = of(OUT);
        const bool residual = size(RESIDUAL);
        T *D = at(AT_D);
        if (l) {
            const Side<T, true> weights = {own(W), padded(out), in};
            product<UNROLLED>(weights, Side<T, false>{own(R), stride, n}, out, [&](int c, int i, const Four(&sums)[4]) {
#pragma unroll
                for (int u = 0; u < 4 && c < in; u++, c += weights.step()) {
                    Four d = load<T, 4>(D + c * stride + i);
                    for (int v = 0; v < 4; v++) d.at[v] += sums[u].at[v];
                    store<T, 4>(D + c * stride + i, d);
                }
            });
            __syncthreads();
        }
        (in + 3) / 3 == (in + 4) / 4 ? descend<3>(l) : descend<4>(l);  // three where that takes no more blocks
        __syncthreads();
        if (l) {
            layer(l - 1);
            T *r = own(R);
            EACH(k, in * stride) {
                r[k] = r[k] > T(0) ? D[k] : T(0);
                if (!residual) D[k] = 0;
            }
            __syncthreads();
        }
    }

    // The minibatch of a step: its rows, targets and coefficients.
    __device__ __forceinline__ void draw_minibatch(const T *X, const T *targets, u64 seed, u64 step) const {
        EACH(block, (n + 3) / 4) draw(rows(), seed, step, block, n, u64(table[ROWS_OF_DATA]));
        __syncthreads();
        if (threadIdx.x + 2 >= blockDim.x) coefficients(step, threadIdx.x + 1 == blockDim.x);
        EACH(i, n) at(AT_E)[i] = targets[rows()[i]];
        gather(X, n, true);
    }

    __device__ __forceinline__ void backward() {
        backward_output();
        for (int l = size(LAYERS) - 1; l >= 0; l--) {
            if (size(NORM)) backward_norm();
            backward_layer(l);
        }
    }

    // Add the errors and counts of the rows first, first + 1, ... of those to be measured, which have gone forward.
    __device__ __forceinline__ void count(const double *y, u64 *active, u64 *nonfinite, int first, int now) {
        EACH(i, n) {
            const double e = i < now ? (double(at(AT_E)[i]) - setting(DELTA)) / setting(GAMMA) - y[first + i] : 0;
            errors()[i] = (first ? errors()[i] : 0) + e * e;
        }
        for (int l = 0; l < size(LAYERS); l++) {
            layer(l);
            EACH(j, of(OUT)) {  // always the same thread for a unit, so that it may add to what it wrote before
                u64 on = first ? active[of(FIRST) + j] : 0, strange = first ? nonfinite[of(FIRST) + j] : 0;
                const T *r = own(R) + j * stride;
                look(now, r, r, [&](T a, T) { on += a > T(0), strange += wild(a); });
                active[of(FIRST) + j] = on, nonfinite[of(FIRST) + j] = strange;
            }
        }
        __syncthreads();
    }

    // The mean of the errors, by one thread.
    __device__ __forceinline__ double loss() const {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += errors()[i];
        const double mean = sum / table[ROWS_TO_MEASURE];
        return wild(mean) ? mean - mean : mean;  // NaN, not infinity
    }
};

template <class T, bool here, bool beside>
__device__ __forceinline__ void run(
    const i64 *table, const T *X, const T *targets, const T *X_eval, const double *y_eval, const u64 *seeds,
    const double *settings, T *kept, T *memory, const i64 *record_at, double *loss, u64 *active, u64 *nonfinite, i64 step,
    i64 begin, i64 end
) {
    const int batch = int(table[BATCH]), inputs = int(table[INPUTS]), all = int(table[ROWS_TO_MEASURE]);
    Training<T, here> t;
    t.table = table, t.settings = settings, t.n = batch, t.stride = padded(batch);
    t.cells = here ? reinterpret_cast<T *>(arena + (12 * batch + 31) / 32 * 32) : memory + blockIdx.x * table[CELLS];
    T *own = kept + blockIdx.x * table[KEPT];
    t.states = (beside ? t.cells : own) + table[AT_STATES];
    EACH(k, int(table[CELLS])) t.cells[k] = k < table[AT_C] ? own[k] : T(0);
    __syncthreads();
    for (int l = 0; l <= int(table[LAYERS]); l++) {
        const int ones = l ? int(table[SIZES + (l - 1) * LINE + OUT]) : inputs;
        EACH(i, t.stride) t.input(l)[ones * t.stride + i] = 1;
    }
    __syncthreads();
    for (int first = 0, at = int(begin); at < int(end);) {  // a step, or `batch` more of the rows that a record is measured on
        const bool training = step < record_at[at];
        const int now = all - first < batch ? all - first : batch;
        if (training)
            t.draw_minibatch(X, targets + blockIdx.x * table[ROWS_OF_DATA], seeds[blockIdx.x], u64(step++));
        else
            t.gather(X_eval + i64(first) * inputs, now, false);
        __syncthreads();
        t.forward(training);
        if (training) {
            t.backward();
            continue;
        }
        const i64 record = blockIdx.x * table[RECORDS] + at;
        t.count(y_eval, active + record * table[UNITS], nonfinite + record * table[UNITS], first, now);
        first += batch;
        if (first < all) continue;
        if (threadIdx.x == 0) loss[record] = t.loss();
        first = 0, at++;
    }
    EACH(k, int(table[AT_C])) own[k] = t.cells[k];
}

#define ENTRY(name, T, here, beside)                                                                                     \
    extern "C" __global__ void __launch_bounds__(512, 1) name(                                                           \
        const i64 *table, const T *X, const T *targets, const T *X_eval, const double *y_eval, const u64 *seeds,         \
        const double *settings, T *kept, T *memory, const i64 *record_at, double *loss, u64 *active, u64 *nonfinite,     \
        i64 step, i64 begin, i64 end                                                                                     \
    ) {                                                                                                                  \
        run<T, here, beside>(table, X, targets, X_eval, y_eval, seeds, settings, kept, memory, record_at, loss, active,  \
                             nonfinite, step, begin, end);                                                               \
    }
ENTRY(train_mlp_shared_f32, float, true, true)
ENTRY(train_mlp_split_f32, float, true, false)
ENTRY(train_mlp_global_f32, float, false, false)
ENTRY(train_mlp_shared_f64, double, true, true)
ENTRY(train_mlp_split_f64, double, true, false)
ENTRY(train_mlp_global_f64, double, false, false)
