// Runs a block of CUDA threads as fibers on one thread of the CPU, in an order that a seed shuffles, and watches them.
//
// Always found: threads that wait at a barrier, or for a warp, in vain; a lane that its own mask leaves out; memory of other
// blocks that is not yet released (see `Cell`). Compiled with -fsanitize=thread (whose callbacks are below; the sanitizer's
// own library is not used) every single access is seen too: threads are switched between accesses, and reported are accesses
// outside of the arrays that were handed over, races, and reads of shared memory that nothing wrote. Shared memory starts as
// garbage in every block.
#include "cuda_on_cpu.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

constexpr size_t STACK = 64 << 10, ARENA = 227 << 10;
alignas(128) unsigned char arena[ARENA];

#ifdef WITH_ASAN
extern "C" void __asan_poison_memory_region(void const volatile *, size_t);
extern "C" void __asan_unpoison_memory_region(void const volatile *, size_t);
#endif

namespace coc {
typedef unsigned long long u64;
enum State { READY, AT_BARRIER, AT_WARP, DONE };

#if defined(__x86_64__)
extern "C" void coc_switch(void **save, void *load);
__asm__(".text\n.hidden coc_switch\n.globl coc_switch\ncoc_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
struct Context { void *stack_pointer; };
void start(Context &c, char *top, void (*entry)()) {
    void **s = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
    *--s = nullptr;  // the ABI's alignment at a function's entry
    *--s = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++) *--s = nullptr;
    c.stack_pointer = s;
}
void change(Context &from, Context &to) { coc_switch(&from.stack_pointer, to.stack_pointer); }
#else
struct Context { ucontext_t u; };
void start(Context &c, char *top, void (*entry)()) {
    getcontext(&c.u);
    c.u.uc_stack.ss_sp = top - STACK, c.u.uc_stack.ss_size = STACK, c.u.uc_link = nullptr;
    makecontext(&c.u, entry, 0);
}
void change(Context &from, Context &to) { swapcontext(&from.u, &to.u); }
#endif

struct Fiber { Context context; dim3 index; State state; unsigned number, fences, syncs; };
struct Warp { u64 value[2][32]; unsigned arrived, mask; int operation, side; };

// One number's history: who wrote and who read it last. Two accesses, one of them a write, are ordered if a barrier of the block
// (or __syncwarp, in one warp) lies between; those of two blocks if the first thread called __threadfence and its block then
// did an atomic operation before the second block did one. Everything else is a race, unless both are atomic.
struct Access { unsigned block, thread, barriers, syncs, fences; bool atomic; const void *where; };
struct Cell { Access wrote, read; bool written, been_read, many; };
struct Array { const unsigned char *begin, *end; size_t grain; std::vector<Cell> cells; };  // grain: bytes of a cell

dim3 grid, size, block;
unsigned serial, threads, waiting, living, barriers, atomics;
u64 random_state, seed;
bool watching;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<char> stacks;
std::vector<unsigned> ready;
std::vector<Array> arrays;
std::vector<std::vector<unsigned>> released;  // block, thread -> fences before the block's last atomic operation
Context scheduler;
Fiber *self;
void *entry, *const *parameters;
std::string error;
const void *places[2];
void *announced;  // of the atomic operation that comes

dim3 thread_index() { return self->index; }
dim3 block_index() { return block; }
dim3 block_size() { return size; }
dim3 grid_size() { return grid; }
unsigned lane() { return self->number % 32; }
void pause() { change(self->context, scheduler); }

[[noreturn]] void fail(const std::string &what, const void *where = nullptr, const void *before = nullptr) {
    error = what + " (block " + std::to_string(block.x) + "," + std::to_string(block.y) + ", thread " +
            std::to_string(self->index.x) + "," + std::to_string(self->index.y) + ")";
    places[0] = where, places[1] = before;
    pause();
    __builtin_unreachable();
}

unsigned chance(unsigned below) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned((random_state >> 33) % below);
}

void barrier() {
    waiting++;
    self->state = AT_BARRIER;
    pause();
}

const u64 *exchange(unsigned mask, int operation, u64 value) {
    const unsigned mine = lane(), first = self->number - mine;
    Warp &w = warps[self->number / 32];
    if (!(mask >> mine & 1)) fail("a lane calls a warp operation with a mask that leaves it out");
    if (w.arrived == 0) w.mask = mask, w.operation = operation;
    if (w.mask != mask || w.operation != operation) fail("lanes of one warp meet in different warp operations or masks");
    const int side = w.side;
    w.value[side][mine] = value;
    w.arrived |= 1u << mine;
    if (w.arrived != mask) {
        self->state = AT_WARP;
        pause();
    } else {
        w.arrived = 0, w.side ^= 1;
        for (unsigned i = 0; i < 32 && first + i < threads; i++)
            if ((mask >> i & 1) && fibers[first + i].state == AT_WARP) fibers[first + i].state = READY, ready.push_back(first + i);
    }
    return w.value[side];
}

void warp_barrier(unsigned mask) {
    exchange(mask, 0, 0);
    self->syncs++;
}

void fence() { self->fences++; }

// ------------------------------------------------------------------------------------------------- what accesses do

bool ordered(const Access &a) {
    if (a.block != serial) return atomics > 0 && a.fences < released[a.block][a.thread];
    return a.thread == self->number || a.barriers < barriers || (a.thread / 32 == self->number / 32 && a.syncs < self->syncs);
}

void touch(Cell &cell, bool write, bool atomic, bool shared, const void *where) {
    const Access now = {serial, self->number, barriers, self->syncs, self->fences, atomic, where};
    if (cell.written && !(atomic && cell.wrote.atomic) && !ordered(cell.wrote)) fail("race: written by another thread", where, cell.wrote.where);
    if (write && cell.been_read && !(atomic && cell.read.atomic)) {
        const bool others = cell.many && cell.read.block == serial && cell.read.barriers == barriers;
        if (others || !ordered(cell.read)) fail("race: read by another thread", where, cell.read.where);
    }
    if (!write && shared && !cell.written) fail("read of shared memory that nothing wrote", where);
    if (write) {
        cell.wrote = now, cell.written = true;
        return;
    }
    const bool same = cell.been_read && cell.read.block == serial && cell.read.barriers == barriers;
    cell.many = same && (cell.many || cell.read.thread != self->number);
    cell.read = now, cell.been_read = true;
}

void access(const void *address, size_t bytes, bool write, bool atomic, const void *where) {
    if (!self || !watching) return;
    const unsigned char *a = static_cast<const unsigned char *>(address);
    const unsigned char *stack = reinterpret_cast<unsigned char *>(stacks.data()) + self->number * STACK;
    if (a >= stack && a + bytes <= stack + STACK) return;
    for (size_t i = 0; i < arrays.size(); i++) {
        Array &array = arrays[i];
        if (a < array.begin || a + bytes > array.end) continue;
        if (chance(4) == 0) ready.push_back(self->number), pause();  // others may come in between
        const size_t first = (a - array.begin) / array.grain, last = (a + bytes - 1 - array.begin) / array.grain;
        for (size_t k = first; k <= last; k++) touch(array.cells[k], write, atomic, i == 0, where);
        return;
    }
    fail(write ? "write outside of the arrays" : "read outside of the arrays", where);
}

void atomic(void *at, int bytes) {
    atomics++;
    for (const Fiber &f : fibers) released[serial][f.number] = f.fences;
    access(at, bytes, true, true, __builtin_return_address(0));
}

// ------------------------------------------------------------------------------------------------------ a launch

template <size_t... I> void call(std::integer_sequence<size_t, I...>) {
    // pointers and integers alike travel as 64 bits, and arguments that a kernel does not have are nobody's business
    reinterpret_cast<void (*)(decltype(u64(I))...)>(entry)(*static_cast<const u64 *>(parameters[I])...);
}

void body() {
    call(std::make_integer_sequence<size_t, 24>());
    self->state = DONE, living--;
    pause();
}

void prepare(size_t shared) {
    for (size_t i = 0; i < shared; i++) arena[i] = seed % 2 ? 0xff : (unsigned char)(chance(256));
    if (watching) arrays[0].cells.assign(shared / 4 + 1, Cell{});
    waiting = barriers = atomics = 0, living = threads, ready.clear();
    warps.assign((threads + 31) / 32, Warp{});
    for (unsigned i = 0; i < threads; i++) {
        fibers[i].state = READY, fibers[i].number = i, fibers[i].fences = 1, fibers[i].syncs = 0;
        fibers[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
        start(fibers[i].context, stacks.data() + (i + 1) * STACK, body);
        ready.push_back(seed == 1 ? threads - 1 - i : i);
    }
    std::reverse(ready.begin(), ready.end());  // they are taken from the end
}

void release_barrier() {
    waiting = 0, barriers++;
    for (unsigned i = 0; i < threads; i++) {
        Fiber &f = fibers[seed == 1 ? i : threads - 1 - i];
        if (f.state == AT_BARRIER) f.state = READY, ready.push_back(f.number);
    }
}

void run_block(size_t shared) {
    prepare(shared);
    while (living && error.empty()) {
        if (ready.empty()) {
            if (waiting != threads) {
                error = "threads wait at a barrier or for their warp, and others never come (block " + std::to_string(block.x) + ")";
                return;
            }
            release_barrier();
        }
        if (seed > 1) std::swap(ready.back(), ready[chance(unsigned(ready.size()))]);
        self = &fibers[ready.back()];
        ready.pop_back();
        change(scheduler, self->context);
    }
}
}  // namespace coc

using namespace coc;

// shape: grid x y z, block x y z; begins and ends: the arrays that may be touched, of numbers of `sizes` bytes; returns 0, or 1
// with a message.
extern "C" int coc_launch(void *kernel, const unsigned *shape, void *const *values, size_t shared, u64 order, int watch, size_t count,
                          const unsigned char *const *begins, const unsigned char *const *ends, const size_t *sizes, char *message,
                          size_t room, const void **where) {
    grid = {shape[0], shape[1], shape[2]}, size = {shape[3], shape[4], shape[5]};
    threads = size.x * size.y * size.z, serial = 0, seed = order, random_state = order * 7919 + 1, watching = watch;
    entry = kernel, parameters = values, error.clear();
    fibers.resize(threads);
    if (stacks.size() < threads * STACK) stacks.resize(threads * STACK);
    arrays.clear();
    if (watching) {
        arrays.push_back({arena, arena + shared, 4, {}});
        for (size_t i = 0; i < count; i++) {
            const size_t grain = std::min(sizes[i], size_t(4));
            arrays.push_back({begins[i], ends[i], grain, std::vector<Cell>((ends[i] - begins[i]) / grain + 1, Cell{})});
        }
    }
    released.assign(size_t(grid.x) * grid.y * grid.z, std::vector<unsigned>(threads, 0));
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(arena, ARENA);
    __asan_poison_memory_region(arena + shared, ARENA - shared);
#endif
    places[0] = places[1] = nullptr;
    for (block.z = 0; block.z < grid.z; block.z++)
        for (block.y = 0; block.y < grid.y; block.y++)
            for (block.x = 0; block.x < grid.x; block.x++, serial++) {
                run_block(shared);
                self = nullptr;
                if (error.empty()) continue;
                snprintf(message, room, "%s", error.c_str());
                where[0] = places[0], where[1] = places[1];
                return 1;
            }
    return 0;
}

// ------------------------------------------------------------------------------- the callbacks of -fsanitize=thread
#define SEEN(n)                                                                                                         \
    void __tsan_read##n(void *a) { access(a, n, false, false, __builtin_return_address(0)); }                           \
    void __tsan_write##n(void *a) { access(a, n, true, false, __builtin_return_address(0)); }                           \
    void __tsan_unaligned_read##n(void *a) { access(a, n, false, false, __builtin_return_address(0)); }                 \
    void __tsan_unaligned_write##n(void *a) { access(a, n, true, false, __builtin_return_address(0)); }
extern "C" {
SEEN(1) SEEN(2) SEEN(4) SEEN(8) SEEN(16)
void __tsan_read_range(void *a, unsigned long n) { access(a, n, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void *a, unsigned long n) { access(a, n, true, false, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
}
