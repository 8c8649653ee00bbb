// Reports of the observers of rtl/tb, kept until they are taken (docs/reference/rtl/verification.md, Lockstep). A channel is one signal of one unit; its number
// belongs to its name, so that every instance of the module has the same ones. Compiled together with harness.cpp.
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

struct Event {
    int64_t cycle;
    int32_t channel;
    int32_t words[4];
    int32_t unused;
};

thread_local bool recording = false;
thread_local std::vector<Event> events;
thread_local std::vector<std::string> channels;
thread_local std::map<std::string, int> numbers;

}  // namespace

extern "C" {

int nmllm_channel(const char* path, const char* signal) {
    const std::string name = std::string(path) + ' ' + signal;
    const auto [entry, added] = numbers.emplace(name, static_cast<int>(channels.size()));
    if (added) channels.push_back(name);
    return entry->second;
}

void nmllm_observe(int channel, long long cycle, int a, int b, int c, int d) {
    if (recording) events.push_back(Event{cycle, channel, {a, b, c, d}, 0});
}

// nmllm_delete for a model with observers: Verilator keeps scopes for their names, and takes them out of the thread's context, which must be the model's.
void nmllm_discard(void* bench) {
    Verilated::threadContextp(&static_cast<Bench*>(bench)->context);
    nmllm_delete(bench);
}

// Starts or ends recording, from nothing.
void nmllm_record(int on) {
    recording = on != 0;
    events.clear();
}

// The events since the last call; valid until the module runs again.
int64_t nmllm_recorded(const Event** first) {
    static thread_local std::vector<Event> taken;
    taken.clear();
    taken.swap(events);
    *first = taken.data();
    return static_cast<int64_t>(taken.size());
}

// Name of a channel, its path and signal; null after the last one.
const char* nmllm_channel_name(int channel) {
    return channel < static_cast<int>(channels.size()) ? channels[channel].c_str() : nullptr;
}
}
