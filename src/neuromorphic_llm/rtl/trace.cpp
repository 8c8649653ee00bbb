// A VCD waveform of some cycles of a module (docs/reference/rtl/verification.md, Lockstep). The harness calls nmllm_trace_clock before it sets the clock: at level 0
// the state that a cycle starts with is there, at level 1 its inputs and all that follows from them.
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include "Vtop.h"
#include "verilated_vcd_c.h"

namespace {

constexpr uint64_t kPeriod = 10;  // time units per cycle

thread_local std::string path;
thread_local std::string scope;
thread_local int64_t first, last, origin;
thread_local std::unique_ptr<VerilatedVcdC> file;

}  // namespace

extern "C" {

// Asks for the cycles [from, to) after `zero`, which counts from the module's creation, of a scope and what is in it. An empty path ends a waveform.
// Returns whether the one that ends could be written.
int nmllm_trace(const char* to_path, const char* of_scope, int64_t zero, int64_t from, int64_t to) {
    int written = 1;
    if (file) {
        written = file->isOpen();
        try {
            file->flush();
            file->close();
        } catch (const std::exception&) {
            written = 0;
            file.release();  // whose destructor would try to write again
        }
    }
    file.reset();
    path = to_path;
    scope = of_scope;
    origin = zero;
    first = from;
    last = to;
    return written;
}
}

void nmllm_trace_clock(Vtop& model, int level) {
    VerilatedContext& context = *model.contextp();
    if (context.time() == 0 && level == 0) context.traceEverOn(true);
    const int64_t cycle = static_cast<int64_t>(context.time()) - origin;
    if (path.empty() || cycle < first || cycle >= last) return;
    if (!file) {
        file = std::make_unique<VerilatedVcdC>();
        if (!scope.empty()) file->dumpvars(99, scope);  // levels
        model.trace(file.get(), 99);
        file->open(path.c_str());
    }
    file->dump(static_cast<uint64_t>(cycle) * kPeriod + (level ? kPeriod / 2 : 0));
}
