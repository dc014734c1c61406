// A whole training run: a block a replica, many steps a launch. Formulas, shapes and bounds: train_mlp.py.
// Parameters, optimiser state and activations lie side by side in one row of cells, in shared memory where they fit (`here`),
// else in a row of `memory` in global memory. A sum is made by one thread or, for predictions, by one warp, so that its order
// depends neither on the replicas nor on the number of threads. Text before this one: _rules.h.

// What `table` says: sizes, then offsets of cells, then a line for each hidden layer.
enum { INPUTS, ROWS_OF_DATA, ROWS_TO_MEASURE, BATCH, LAYERS, RULE, RESIDUAL, NORM, PARAMETERS, STATES, RUNNING, UNITS, RECORDS,
       CELLS, LAST_W, AT_RUNNING, AT_C, AT_E, AT_X, AT_D, SIZES };
enum { IN, OUT, W, MEAN, FIRST, R, H, HAT, ROOT, LINE };
enum { SGD, HEAVY_BALL, NESTEROV, EMA, ADAM };
enum { LR, BETA, BETA2, EPSILON, GAMMA, DELTA, SETTINGS };

const int TILE = 4;  // rows that a thread makes for each weight it reads
const double NORM_EPS = 1e-5, MOMENTUM = 0.1;

#define EACH(i, n) for (int i = threadIdx.x; i < (n); i += blockDim.x)

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

// Move the parameter `cell` against its gradient g; its states lie one and two times PARAMETERS further on.
template <class T> __device__ __noinline__ void update(const i64 *table, const T *coefficients, T *cell, T g) {
    const Coefficients<T> c = {coefficients};
    T *first = cell + table[PARAMETERS], *second = first + table[PARAMETERS];
    const T x = *cell;
    T m = table[STATES] > 0 ? *first : T(0), v = table[STATES] > 1 ? *second : T(0);
    switch (table[RULE]) {
        case SGD: *cell = Sgd::step(x, g, m, v, c); break;
        case HEAVY_BALL: *cell = HeavyBall::step(x, g, m, v, c); break;
        case NESTEROV: *cell = Nesterov::step(x, g, m, v, c); break;
        case EMA: *cell = Ema::step(x, g, m, v, c); break;
        default: *cell = Adam::step(x, g, m, v, c);
    }
    if (table[STATES] > 0) *first = m;
    if (table[STATES] > 1) *second = v;
}

template <class T> struct Training {
    const i64 *table, *line;
    T *cells;           // of this replica: parameters, states, running statistics, then what a step needs
    double *errors;     // (batch,) in shared memory, of the measurement
    u32 *rows;          // (batch,) of the minibatch
    const double *own;  // this replica's settings

    __device__ __forceinline__ int size(int what) const { return int(table[what]); }
    __device__ __forceinline__ T *at(int what) const { return cells + table[what]; }
    __device__ __forceinline__ void layer(int l) { line = table + SIZES + l * LINE; }
    __device__ __forceinline__ int of(int what) const { return int(line[what]); }
    __device__ __forceinline__ T *here(int what) const { return cells + line[what]; }
    __device__ __forceinline__ T *bias() const { return here(W) + of(IN) * of(OUT); }  // then, with batch norm, scale and shift

    // The input of the hidden layer l.
    __device__ __forceinline__ T *input(int l) const {
        if (l == 0) return at(AT_X);
        const i64 *before = table + SIZES + (l - 1) * LINE;
        return cells + (table[RESIDUAL] && l > 1 ? before[H] : before[R]);
    }

    __device__ __forceinline__ void move(T *cell, T g) const { update(table, at(AT_C), cell, g); }

    // The coefficients of the update number step + 1, by one thread.
    __device__ __forceinline__ void coefficients(u64 step) const {
        T *c = at(AT_C);
        const double lr = own[LR], beta = own[BETA], beta2 = own[BETA2];
        if (size(RULE) != ADAM) {
            c[0] = T(lr), c[1] = T(beta), c[2] = T(1 - beta);
            return;
        }
        c[0] = T(lr / (1 - power(beta, step + 1))), c[1] = T(beta), c[2] = T(1 - beta);
        c[3] = T(beta2), c[4] = T(1 - beta2), c[5] = T(1 / sqrt(1 - power(beta2, step + 1))), c[6] = T(own[EPSILON]);
    }

    // z = h W + b, and relu at once where no batch norm comes between.
    __device__ __forceinline__ void affine(const T *h, int n) const {
        const int in = of(IN), out = of(OUT);
        const T *w = here(W), *b = bias();
        T *z = here(R);
        EACH(k, (n + TILE - 1) / TILE * out) {
            const int j = k % out, first = k / out * TILE;
            T sum[TILE] = {};
            for (int i = 0; i < in; i++) {
                const T weight = w[i * out + j];
#pragma unroll
                for (int a = 0; a < TILE; a++)
                    if (first + a < n) sum[a] += h[(first + a) * in + i] * weight;
            }
#pragma unroll
            for (int a = 0; a < TILE; a++)
                if (first + a < n) z[(first + a) * out + j] = size(NORM) ? sum[a] + b[j] : relu(sum[a] + b[j]);
        }
    }

    // Batch norm and relu by the batch's own statistics, a thread a unit; the running ones follow.
    __device__ __forceinline__ void normalise(int n) const {
        const int out = of(OUT);
        const T *scale = bias() + out, *shift = scale + out;
        T *z = here(R), *hat = here(HAT), *mean = at(AT_RUNNING) + of(MEAN), *variance = mean + out;
        EACH(j, out) {
            T sum = 0, squares = 0;
            for (int i = 0; i < n; i++) sum += z[i * out + j];
            const T middle = sum / T(n);
            for (int i = 0; i < n; i++) squares += (z[i * out + j] - middle) * (z[i * out + j] - middle);
            const T spread = squares / T(n), root = sqrt(spread + T(NORM_EPS));
            mean[j] = T(1 - MOMENTUM) * mean[j] + T(MOMENTUM) * middle;
            variance[j] = T(1 - MOMENTUM) * variance[j] + T(MOMENTUM) * (T(double(n) / (n - 1)) * spread);
            here(ROOT)[j] = root;
            for (int i = 0; i < n; i++) {
                const T unit = (z[i * out + j] - middle) / root;
                hat[i * out + j] = unit;
                z[i * out + j] = relu(scale[j] * unit + shift[j]);
            }
        }
    }

    // The same by the running statistics.
    __device__ __forceinline__ void normalise_by(int n) const {
        const int out = of(OUT);
        const T *scale = bias() + out, *shift = scale + out, *mean = at(AT_RUNNING) + of(MEAN), *variance = mean + out;
        T *z = here(R);
        EACH(k, n * out) {
            const int j = k % out;
            z[k] = relu((z[k] - mean[j]) * (scale[j] / sqrt(variance[j] + T(NORM_EPS))) + shift[j]);
        }
    }

    // All layers for the n rows in AT_X; afterwards e holds the predictions. Ends with a barrier.
    __device__ __forceinline__ void forward(int n, bool training) {
        for (int l = 0; l < size(LAYERS); l++) {
            layer(l);
            affine(input(l), n);
            __syncthreads();
            if (size(NORM)) {
                training ? normalise(n) : normalise_by(n);
                __syncthreads();
            }
            if (size(RESIDUAL) && l) {
                EACH(k, n * of(OUT)) here(H)[k] = input(l)[k] + here(R)[k];
                __syncthreads();
            }
        }
        const int units = of(OUT), lane = threadIdx.x % 32;
        const T *h = input(size(LAYERS)), *w = at(LAST_W);
        for (int i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {  // a warp a row
            T sum = 0;
            for (int j = lane; j < units; j += 32) sum += h[i * units + j] * w[j];
            for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(ALL, sum, d);
            if (lane == 0) at(AT_E)[i] = sum + w[units];
        }
        __syncthreads();
    }

    // From the loss's derivatives e to the last hidden layer, and the output's own update. A thread owns a unit's column.
    __device__ __forceinline__ void backward_output(int n) const {
        const int units = of(OUT);
        const T *e = at(AT_E), *h = input(size(LAYERS));
        T *w = at(LAST_W), *r = here(R);
        EACH(j, units + 1) {
            T g = 0;
            for (int i = 0; i < n; i++) {
                if (j < units) {
                    const T d = e[i] * w[j];
                    g += e[i] * h[i * units + j];
                    if (size(RESIDUAL)) at(AT_D)[i * units + j] = d;
                    r[i * units + j] = r[i * units + j] > T(0) ? d : T(0);
                } else {
                    g += e[i];
                }
            }
            move(w + j, g);
        }
        __syncthreads();
    }

    // Through batch norm, in place; scale and shift move.
    __device__ __forceinline__ void backward_norm(int n) const {
        const int out = of(OUT);
        T *dz = here(R), *scale = bias() + out, *shift = scale + out;
        const T *hat = here(HAT);
        EACH(j, out) {
            T d_scale = 0, d_shift = 0;
            for (int i = 0; i < n; i++) d_scale += dz[i * out + j] * hat[i * out + j], d_shift += dz[i * out + j];
            const T factor = scale[j] / here(ROOT)[j];
            for (int i = 0; i < n; i++) {
                dz[i * out + j] = factor * (dz[i * out + j] - d_shift / T(n) - hat[i * out + j] * (d_scale / T(n)));
            }
            move(scale + j, d_scale);
            move(shift + j, d_shift);
        }
        __syncthreads();
    }

    // One hidden layer back: the gradient of its input, then its update, then the mask of the layer below.
    __device__ __forceinline__ void backward_layer(int l, int n) {
        const int in = of(IN), out = of(OUT);
        T *w = here(W), *dz = here(R), *D = at(AT_D);
        const T *h = input(l);
        if (l) {
            EACH(k, n * in) {
                const int i = k / in, c = k % in;
                T sum = 0;
                for (int j = 0; j < out; j++) sum += dz[i * out + j] * w[c * out + j];
                D[k] = size(RESIDUAL) ? sum + D[k] : sum;
            }
            __syncthreads();
        }
        EACH(k, (in + 1) * out) {
            const int i = k / out, j = k % out;
            T g = 0;
            if (i < in)
                for (int b = 0; b < n; b++) g += h[b * in + i] * dz[b * out + j];
            else if (!size(NORM))  // the exact gradient of a bias before batch norm is 0
                for (int b = 0; b < n; b++) g += dz[b * out + j];
            move(w + k, g);
        }
        __syncthreads();
        if (l) {
            layer(l - 1);
            T *r = here(R);
            EACH(k, n * in) r[k] = r[k] > T(0) ? D[k] : T(0);
            __syncthreads();
        }
    }

    __device__ __forceinline__ void train(const T *X, const T *targets, u64 seed, u64 step) {
        const int n = size(BATCH), inputs = size(INPUTS);
        EACH(block, (n + 3) / 4) draw(rows, seed, step, block, n, u64(table[ROWS_OF_DATA]));
        if (threadIdx.x == 0) coefficients(step);
        __syncthreads();
        EACH(k, n * inputs) at(AT_X)[k] = X[i64(rows[k / inputs]) * inputs + k % inputs];
        __syncthreads();
        forward(n, true);
        EACH(i, n) at(AT_E)[i] = (at(AT_E)[i] - targets[rows[i]]) * T(2.0 / n);
        __syncthreads();
        backward_output(n);
        for (int l = size(LAYERS) - 1; l >= 0; l--) {
            if (size(NORM)) backward_norm(n);
            backward_layer(l, n);
        }
    }

    // The error and the counts on all rows to be measured, `batch` of them at a time.
    __device__ __forceinline__ void measure(const T *X, const double *y, double *loss, u64 *active, u64 *nonfinite) {
        const int n = size(BATCH), inputs = size(INPUTS), all = size(ROWS_TO_MEASURE);
        EACH(i, n) errors[i] = 0;
        for (int first = 0; first < all; first += n) {
            const int now = all - first < n ? all - first : n;
            EACH(k, now * inputs) at(AT_X)[k] = X[i64(first) * inputs + k];
            __syncthreads();
            forward(now, false);
            EACH(i, now) {
                const double e = (double(at(AT_E)[i]) - own[DELTA]) / own[GAMMA] - y[first + i];
                errors[i] += e * e;
            }
            for (int l = 0; l < size(LAYERS); l++) {
                layer(l);
                EACH(j, of(OUT)) {  // always the same thread for a unit, so that it may add to what it wrote before
                    u64 on = first ? active[of(FIRST) + j] : 0, strange = first ? nonfinite[of(FIRST) + j] : 0;
                    for (int i = 0; i < now; i++) {
                        const T r = here(R)[i * of(OUT) + j];
                        on += r > T(0), strange += wild(r);
                    }
                    active[of(FIRST) + j] = on, nonfinite[of(FIRST) + j] = strange;
                }
            }
            __syncthreads();
        }
        if (threadIdx.x == 0) {
            double sum = 0;
            for (int i = 0; i < n; i++) sum += errors[i];
            const double mean = sum / all;
            *loss = wild(mean) ? mean - mean : mean;  // NaN, not infinity
        }
    }
};

template <class T, bool here>
__device__ __forceinline__ void run(
    const i64 *table, const T *X, const T *targets, const T *X_eval, const double *y_eval, const u64 *seeds, const double *settings,
    T *parameters, T *memory, const i64 *record_at, double *loss, u64 *active, u64 *nonfinite, i64 step, i64 begin, i64 end
) {
    const i64 r = blockIdx.x, kept = table[AT_C], cells = table[CELLS], units = table[UNITS], records = table[RECORDS];
    const int batch = int(table[BATCH]);
    Training<T> t;
    t.table = table, t.own = settings + r * SETTINGS;
    t.errors = reinterpret_cast<double *>(arena);
    t.rows = reinterpret_cast<u32 *>(t.errors + batch);
    t.cells = here ? reinterpret_cast<T *>(arena + (12 * batch + 15) / 16 * 16) : memory + r * cells;
    EACH(k, int(kept)) t.cells[k] = parameters[r * kept + k];  // with the states and running statistics behind them
    __syncthreads();
    for (i64 at = begin; at < end; at++) {
        for (; step < record_at[at]; step++) t.train(X, targets + r * table[ROWS_OF_DATA], seeds[r], u64(step));
        const i64 record = r * records + at;
        t.measure(X_eval, y_eval, loss + record, active + record * units, nonfinite + record * units);
        __syncthreads();
    }
    EACH(k, int(kept)) parameters[r * kept + k] = t.cells[k];
}

#define ENTRY(name, T, here, blocks)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256, blocks) name(                                                      \
        const i64 *table, const T *X, const T *targets, const T *X_eval, const double *y_eval, const u64 *seeds,         \
        const double *settings, T *parameters, T *memory, const i64 *record_at, double *loss, u64 *active,               \
        u64 *nonfinite, i64 step, i64 begin, i64 end                                                                     \
    ) {                                                                                                                  \
        run<T, here>(table, X, targets, X_eval, y_eval, seeds, settings, parameters, memory, record_at, loss, active,    \
                     nonfinite, step, begin, end);                                                                       \
    }
ENTRY(train_mlp_shared_f32, float, true, 3)
ENTRY(train_mlp_global_f32, float, false, 3)
ENTRY(train_mlp_shared_f64, double, true, 2)
ENTRY(train_mlp_global_f64, double, false, 2)
