// dz = g where the mask's bit is set, else +0; db = the sum of dz over rows, always in the same order.
// Formula, bytes and the bound of db: relu_backward.py. dz may be g.

#define BACKWARD(T) const T *g, const u32 *mask, T *dz, T *db
#define SIZES i64 replicas, i64 rows, i64 units

// 1. One thread a unit walks its rows.
template <class T> __device__ __forceinline__ void backward_1(BACKWARD(T), SIZES) {
    const i64 words = (units + 31) / 32, columns = replicas * units;
    for (i64 c = i64(blockIdx.x) * blockDim.x + threadIdx.x; c < columns; c += i64(gridDim.x) * blockDim.x) {
        const i64 j = c % units;
        Wide<T> sum = 0;
        for (i64 row = c / units * rows, end = row + rows; row < end; row++) {
            const T d = mask[row * words + j / 32] >> j % 32 & 1u ? g[row * units + j] : T();
            dz[row * units + j] = d;
            sum += wide(d);
        }
        db[c] = narrow<T>(sum);
    }
}

// 2. A thread walks V units of a slab, 16 bytes at a time; backward_sum then adds up the slabs.
template <class T, int V>
__device__ __forceinline__ void backward_2(const T *g, const u32 *mask, T *dz, Wide<T> *partial, SIZES) {
    const i64 words = (units + 31) / 32, slabs = (rows + ROWS - 1) / ROWS, packs = units / V;
    for (i64 k = i64(blockIdx.x) * blockDim.x + threadIdx.x; k < replicas * slabs * packs; k += i64(gridDim.x) * blockDim.x) {
        const i64 j = k % packs * V, line = k / packs, r = line / slabs, first = line % slabs * ROWS;
        Pack<Wide<T>, V> sum = {};
        for (i64 i = first; i < rows && i < first + ROWS; i++) {
            const i64 row = r * rows + i;
            const u32 bits = mask[row * words + j / 32] >> j % 32;
            Pack<T, V> d = load<T, V>(g + row * units + j);
            for (int v = 0; v < V; v++) {
                d.set(v, bits >> v & 1u ? d.get(v) : T());
                sum.at[v] += wide(d.get(v));
            }
            store<T, V>(dz + row * units + j, d);
        }
        store<Wide<T>, V>(partial + line * units + j, sum);
    }
}

template <class T> __device__ __forceinline__ void backward_sum(const Wide<T> *partial, T *db, SIZES) {
    const i64 slabs = (rows + ROWS - 1) / ROWS, columns = replicas * units;
    for (i64 c = i64(blockIdx.x) * blockDim.x + threadIdx.x; c < columns; c += i64(gridDim.x) * blockDim.x) {
        Wide<T> sum = 0;
        for (i64 slab = 0; slab < slabs; slab++) sum += partial[(c / units * slabs + slab) * units + c % units];
        db[c] = narrow<T>(sum);
    }
}

// 3. See _words.h: several rows in flight, row sums of a block through shared memory, the last block adds up the slabs.
template <class T, int V> __device__ __forceinline__ void backward_3(BACKWARD(T), Wide<T> *partial, u32 *tickets, SIZES) {
    const i64 words = (units + 31) / 32;
    const Cut cut(replicas, rows, units, V);
    for (i64 k = blockIdx.x; k < cut.tasks; k += gridDim.x) {
        const Task t = cut.task(k, V);
        Pack<Wide<T>, V> sum = {};
        for (int first = threadIdx.y; first < t.rows && t.inside; first += AHEAD * blockDim.y) {
            Pack<T, V> d[AHEAD];
            u32 bits[AHEAD];
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                const int i = first + a * blockDim.y;
                if (i >= t.rows) continue;
                bits[a] = mask[cut.row(t, i) * words + t.unit / 32] >> t.unit % 32;
                d[a] = load<T, V>(g + cut.row(t, i) * units + t.unit);
            }
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                const int i = first + a * blockDim.y;
                if (i >= t.rows) continue;
                for (int v = 0; v < V; v++) {
                    d[a].set(v, bits[a] >> v & 1u ? d[a].get(v) : T());
                    sum.at[v] += wide(d[a].get(v));
                }
                store<T, V>(dz + cut.row(t, i) * units + t.unit, d[a]);
            }
        }
        sum_rows<Wide<T>, V>(sum);
        const bool mine = threadIdx.y == 0 && t.inside;
        T *whole = db + t.replica * units + t.unit;
        Wide<T> *line = partial + t.replica * cut.slabs * units + t.unit;
        if (mine && cut.slabs == 1) store<T, V>(whole, narrowed<T, V>(sum));
        if (mine && cut.slabs > 1) store<Wide<T>, V>(line + t.slab * units, sum);
        if (cut.slabs == 1 || !last_slab(tickets, cut, t) || !mine) continue;
        Pack<Wide<T>, V> total = {};
#pragma unroll 8
        for (i64 slab = 0; slab < cut.slabs; slab++)
            for (int v = 0; v < V; v++) total.at[v] += __ldcg(line + slab * units + v);
        store<T, V>(whole, narrowed<T, V>(total));
    }
}

#define ENTRIES(T, type, V)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 3) relu_backward_1_##type(BACKWARD(T), SIZES) {                       \
        backward_1<T>(g, mask, dz, db, replicas, rows, units);                                                           \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                    \
        relu_backward_2_##type(const T *g, const u32 *mask, T *dz, Wide<T> *partial, SIZES) {                                  \
        backward_2<T, V>(g, mask, dz, partial, replicas, rows, units);                                                   \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                    \
        relu_backward_2_##type##_ragged(const T *g, const u32 *mask, T *dz, Wide<T> *partial, SIZES) {                         \
        backward_2<T, 1>(g, mask, dz, partial, replicas, rows, units);                                                   \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3) relu_backward_sum_##type(const Wide<T> *partial, T *db, SIZES) {         \
        backward_sum<T>(partial, db, replicas, rows, units);                                                             \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                    \
        relu_backward_3_##type(BACKWARD(T), Wide<T> *partial, u32 *tickets, SIZES) {                                           \
        backward_3<T, V>(g, mask, dz, db, partial, tickets, replicas, rows, units);                                      \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                    \
        relu_backward_3_##type##_ragged(BACKWARD(T), Wide<T> *partial, u32 *tickets, SIZES) {                                  \
        backward_3<T, 1>(g, mask, dz, db, partial, tickets, replicas, rows, units);                                      \
    }

ENTRIES(float, f32, 4)
ENTRIES(double, f64, 2)
ENTRIES(f16, f16, 8)
ENTRIES(bf16, bf16, 8)
