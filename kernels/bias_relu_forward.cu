// y = relu(z + b) with a packed mask and counts per unit; with `skip`, of residual_relu.cu, relu((z + skip) + b).
// Formula, bytes and special values: bias_relu_forward.py. y may be z.

#define FORWARD(T) const T *z, const T *b, const T *skip, T *y, u32 *mask, u64 *active, u64 *nonfinite
#define SIZES i64 replicas, i64 rows, i64 units

// Rounded once, for T of 16 bits; mask and counts are those of the number that is stored.
template <class T, bool residual> __device__ __forceinline__ T rectified(T z, T skip, T b) {
    return narrow<T>(relu((residual ? wide(z) + wide(skip) : wide(z)) + wide(b)));
}

// 1. One thread a number; bits and counts by atomics. mask, active and nonfinite are 0 before.
template <class T, bool residual> __device__ __forceinline__ void forward_1(FORWARD(T), SIZES) {
    const i64 words = (units + 31) / 32, size = replicas * rows * units;
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += i64(gridDim.x) * blockDim.x) {
        const i64 row = i / units, j = i % units, unit = row / rows * units + j;
        const T v = rectified<T, residual>(z[i], residual ? skip[i] : T(), b[unit]);
        y[i] = v;
        if (positive(v)) {
            atomicOr(&mask[row * words + j / 32], 1u << j % 32);
            atomicAdd(&active[unit], 1ull);
        }
        if (wild(v)) atomicAdd(&nonfinite[unit], 1ull);
    }
}

// 2. A warp takes 32·V units of a row, 16 bytes a lane, and makes whole words by V ballots. Counts are still by atomics.
template <class T, int V, bool residual> __device__ __forceinline__ void forward_2(FORWARD(T), SIZES) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    const i64 words = (units + 31) / 32, strips = (units + 32 * V - 1) / (32 * V), tasks = replicas * rows * strips;
    for (i64 k = i64(blockIdx.x) * warps + threadIdx.x / 32; k < tasks; k += i64(gridDim.x) * warps) {
        const i64 row = k / strips, first = k % strips * 32 * V, j = first + lane * V, unit = row / rows * units + j;
        Pack<T, V> s = {};  // lanes beyond the row hold 0: they are not active, and take part in every ballot
        if (j < units) {
            s = load<T, V>(z + row * units + j);
            for (int v = 0; v < V; v++)
                s.set(v, rectified<T, residual>(s.get(v), residual ? skip[row * units + j + v] : T(), b[unit + v]));
            store<T, V>(y + row * units + j, s);
        }
        u32 word = 0;  // lane q makes word q: bit i of its byte of ballot v is unit V·i + v
        for (int v = 0; v < V; v++) word |= deal<V>(__ballot_sync(ALL, positive(s.get(v))) >> lane % V * (32 / V)) << v;
        if (lane < V && first / 32 + lane < words) mask[row * words + first / 32 + lane] = word;
        for (int v = 0; v < V && j < units; v++) {
            if (positive(s.get(v))) atomicAdd(&active[unit + v], 1ull);
            if (wild(s.get(v))) atomicAdd(&nonfinite[unit + v], 1ull);
        }
    }
}

// 3. See _words.h: a thread keeps its V units for a slab of rows, so b is read once a slab and counts stay in registers.
template <class T, int V, bool residual>
__device__ __forceinline__ void forward_3(FORWARD(T), u32 *partial, u32 *tickets, SIZES) {
    const int ahead = V > 4 ? 2 : AHEAD;  // more rows of 16-bit numbers do not fit the registers
    const i64 words = (units + 31) / 32;
    const Cut cut(replicas, rows, units, V);
    for (i64 k = blockIdx.x; k < cut.tasks; k += gridDim.x) {
        const Task t = cut.task(k, V);
        Pack<u32, V> count = {};  // active rows in the low 16 bits, non-finite ones in the high
        Pack<T, V> bias = {};
        if (t.inside) bias = load<T, V>(b + t.replica * units + t.unit);
        for (int first = threadIdx.y; first < t.rows; first += ahead * blockDim.y) {
            Pack<T, V> s[ahead] = {}, other[ahead] = {};
#pragma unroll
            for (int a = 0; a < ahead; a++) {
                const int i = first + a * blockDim.y;
                if (!t.inside || i >= t.rows) continue;
                s[a] = load<T, V>(z + cut.row(t, i) * units + t.unit);
                if (residual) other[a] = load<T, V>(skip + cut.row(t, i) * units + t.unit);
            }
#pragma unroll
            for (int a = 0; a < ahead; a++) {
                const int i = first + a * blockDim.y;
                if (i >= t.rows) break;  // a warp has one y, so all its lanes go on or all stop
                const i64 row = cut.row(t, i);
                u32 bits = 0;
                for (int v = 0; v < V; v++) {
                    const T value = rectified<T, residual>(s[a].get(v), other[a].get(v), bias.get(v));
                    s[a].set(v, value);
                    const bool on = t.inside && positive(value);
                    bits |= u32(on) << v;
                    count.at[v] += u32(on) + (u32(wild(value)) << 16);
                }
                if (t.inside) store<T, V>(y + row * units + t.unit, s[a]);
                const u32 word = gather<V>(bits);
                if (t.inside && t.unit % 32 == 0) mask[row * words + t.unit / 32] = word;
            }
        }
        finish_counts<V>(count, cut, t, active, nonfinite, partial, tickets);
    }
}

#define ARGUMENTS z, b, skip, y, mask, active, nonfinite
#define ENTRIES(name, T, type, V, residual)                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 3) name##_1_##type(FORWARD(T), SIZES) {                               \
        forward_1<T, residual>(ARGUMENTS, replicas, rows, units);                                                        \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3) name##_2_##type(FORWARD(T), SIZES) {                               \
        forward_2<T, V, residual>(ARGUMENTS, replicas, rows, units);                                                     \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3) name##_2_##type##_ragged(FORWARD(T), SIZES) {                      \
        forward_2<T, 1, residual>(ARGUMENTS, replicas, rows, units);                                                     \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3) name##_3_##type(FORWARD(T), u32 *partial, u32 *tickets, SIZES) {   \
        forward_3<T, V, residual>(ARGUMENTS, partial, tickets, replicas, rows, units);                                   \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                    \
        name##_3_##type##_ragged(FORWARD(T), u32 *partial, u32 *tickets, SIZES) {                                        \
        forward_3<T, 1, residual>(ARGUMENTS, partial, tickets, replicas, rows, units);                                   \
    }

ENTRIES(bias_relu_forward, float, f32, 4, false)
ENTRIES(bias_relu_forward, double, f64, 2, false)
ENTRIES(bias_relu_forward, f16, f16, 8, false)
ENTRIES(bias_relu_forward, bf16, bf16, 8, false)
