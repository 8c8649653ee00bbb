// Drives a Verilated module in bulk for neuromorphic_llm.rtl.bench. The build writes ports.h beside it: NMLLM_PORTS(PORT) with
// PORT(name, scalars, bytes) for every port, NMLLM_CLOCK(model, level), and includes Vtop.h.
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "ports.h"
#include "verilated.h"

static thread_local std::string reported;

void nmllm_print(const char* format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (std::strstr(text, "%Error") || std::strstr(text, "%Fatal")) {
        reported += text;
    } else {
        std::fputs(text, stdout);
    }
}

void vl_stop(const char* file, int line, const char*) {
    throw std::runtime_error(reported.empty() ? std::string("$stop at ") + file + ":" + std::to_string(line) : reported);
}

void vl_fatal(const char* file, int line, const char*, const char* message) {
    throw std::runtime_error(reported + file + ":" + std::to_string(line) + ": " + message);
}

namespace {

// A port is `scalars` C++ scalars of `bytes`; more than 8 bytes are a vector of 32-bit words.
struct Port {
    uint8_t* data;
    int64_t scalars;
    int64_t bytes;
};

constexpr int64_t kPorts =
#define NMLLM_ONE(name, scalars, bytes) 1 +
    NMLLM_PORTS(NMLLM_ONE) 0;

struct Bench {
    VerilatedContext context;
    std::unique_ptr<Vtop> model;
    Port ports[kPorts];

    explicit Bench(int seed) {
        context.randReset(2);  // whatever is not reset starts with random values
        context.randSeed(seed);
        model = std::make_unique<Vtop>(&context);
        Port* port = ports;
#define NMLLM_PORT(name, scalars, bytes) *port++ = Port{reinterpret_cast<uint8_t*>(&model->name), scalars, bytes};
        NMLLM_PORTS(NMLLM_PORT)
    }
};

// Values of a port (element < 0), or of one element of an array port, a row for each cycle or transfer. Up to 64 bits a
// value takes 8 bytes, a wider one its words. Inputs with step 0 are held.
struct Column {
    int64_t port;
    int64_t element;
    uint8_t* data;
    int64_t step;

    void access(const Bench& bench, uint8_t*& target, int64_t& scalars, int64_t& bytes) const {
        const Port& p = bench.ports[port];
        bytes = p.bytes;
        scalars = element < 0 ? p.scalars : 1;
        target = p.data + (element < 0 ? 0 : element * p.bytes);
    }
    void drive(const Bench& bench, int64_t row) const {
        uint8_t* target;
        int64_t scalars, bytes;
        access(bench, target, scalars, bytes);
        const uint8_t* from = data + row * step;
        if (bytes > 8) {
            std::memcpy(target, from, scalars * bytes);
        } else {
            for (int64_t i = 0; i < scalars; ++i) std::memcpy(target + i * bytes, from + i * 8, bytes);
        }
    }
    void sample(const Bench& bench, int64_t row) const {
        uint8_t* source;
        int64_t scalars, bytes;
        access(bench, source, scalars, bytes);
        uint8_t* to = data + row * step;
        if (bytes > 8) {
            std::memcpy(to, source, scalars * bytes);
        } else {
            for (int64_t i = 0; i < scalars; ++i) {
                uint64_t value = 0;
                std::memcpy(&value, source + i * bytes, bytes);
                std::memcpy(to + i * 8, &value, 8);
            }
        }
    }
};

// A ready/valid stream. Sources have `count` rows to send, sinks take at most `count`, and stop the run at `wanted` rows
// (0: never). `pause` is the probability of an idle cycle or of a low ready. A port of -1 does not exist.
struct Stream {
    int64_t valid, ready, element;
    Column* fields;
    int64_t number_of_fields;
    int64_t* cycles;
    int64_t count, wanted, moved;
    double pause;
    uint64_t random;
    int64_t active;  // valid of a source, ready of a sink

    bool chance() {  // true with probability `pause`
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return pause > 0 && static_cast<double>(random >> 11) * 0x1p-53 < pause;
    }
    uint8_t& bit(const Bench& bench, int64_t port) const { return bench.ports[port].data[element < 0 ? 0 : element]; }
};

}  // namespace

extern "C" {

void* nmllm_new(int seed) { return new Bench(seed); }

void nmllm_delete(void* bench) { delete static_cast<Bench*>(bench); }

// Runs up to `cycles` cycles; returns how many. On a failed assertion `message` is filled, and the cycle returned is its.
int64_t nmllm_run(void* handle, int64_t cycles, const Column* inputs, int64_t number_of_inputs, const Column* outputs,
                  int64_t number_of_outputs, Stream* sources, int64_t number_of_sources, Stream* sinks,
                  int64_t number_of_sinks, char* message, int64_t message_size) {
    Bench& bench = *static_cast<Bench*>(handle);
    Vtop& model = *bench.model;
    reported.clear();
    int64_t cycle = 0;
    try {
        for (; cycle < cycles; ++cycle) {
            for (int64_t i = 0; i < number_of_inputs; ++i) {
                if (cycle == 0 || inputs[i].step != 0) inputs[i].drive(bench, cycle);
            }
            for (int64_t i = 0; i < number_of_sources; ++i) {
                Stream& s = sources[i];
                if (!s.active && s.moved < s.count && !s.chance()) {
                    s.active = 1;
                    for (int64_t f = 0; f < s.number_of_fields; ++f) s.fields[f].drive(bench, s.moved);
                }
                s.bit(bench, s.valid) = static_cast<uint8_t>(s.active);
            }
            for (int64_t i = 0; i < number_of_sinks; ++i) {
                Stream& s = sinks[i];
                s.active = s.ready < 0 || !s.chance();
                if (s.ready >= 0) s.bit(bench, s.ready) = static_cast<uint8_t>(s.active);
            }
            NMLLM_CLOCK(model, 0);
            model.eval();
            for (int64_t i = 0; i < number_of_outputs; ++i) outputs[i].sample(bench, cycle);
            for (int64_t i = 0; i < number_of_sources; ++i) {
                Stream& s = sources[i];
                if (s.active && (s.ready < 0 || s.bit(bench, s.ready))) {
                    s.cycles[s.moved++] = cycle;
                    s.active = 0;
                }
            }
            bool finished = number_of_sinks > 0;
            for (int64_t i = 0; i < number_of_sinks; ++i) {
                Stream& s = sinks[i];
                if (s.active && s.moved < s.count && s.bit(bench, s.valid)) {
                    for (int64_t f = 0; f < s.number_of_fields; ++f) s.fields[f].sample(bench, s.moved);
                    s.cycles[s.moved++] = cycle;
                }
                finished = finished && s.wanted > 0 && s.moved >= s.wanted;
            }
            // What a reset will define is still random at the first edge, also for assertions of modules without one.
            if (bench.context.time() <= 1) bench.context.assertOn(bench.context.time() != 0);
            NMLLM_CLOCK(model, 1);
            model.eval();
            bench.context.timeInc(1);
            if (finished) return cycle + 1;
        }
    } catch (const std::exception& error) {
        std::snprintf(message, message_size, "%s", error.what());
    }
    return cycle;
}
}
