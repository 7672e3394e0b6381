// What the backend needs of Python, which only module.cpp knows.
#pragma once

#include <functional>

namespace tutti_torch {

// Runs Python's signal handlers where the calling thread is the one that may; throws what they raise.
extern void (*check_signals)();

// Calls that function without Python's lock, whether the calling thread has it or not: where a thread is
// waited for that may want it.
extern void (*run_unlocked)(const std::function<void()> &function);

} // namespace tutti_torch
