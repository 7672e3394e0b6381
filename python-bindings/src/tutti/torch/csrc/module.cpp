// The Python module tutti.torch._backend.
#include <thread>

#include <pybind11/chrono.h>
#include <torch/extension.h>

#include "backend.h"
#include "interpreter.h"

namespace py = pybind11;

namespace tutti_torch {
namespace {

std::thread::id python_thread; // of signal handlers

void run_signal_handlers()
{
    if (std::this_thread::get_id() != python_thread || !Py_IsInitialized()) {
        return;
    }
    py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) {
        throw py::error_already_set();
    }
}

void run_without_lock(const std::function<void()> &function)
{
    if (Py_IsInitialized() && PyGILState_Check()) {
        py::gil_scoped_release unlocked;
        function();
    } else {
        function();
    }
}

void set_functions(uintptr_t address)
{
    auto *table = reinterpret_cast<const tutti_functions *>(address);
    TORCH_CHECK(table->struct_size == sizeof(tutti_functions),
                "tutti.torch was built for another release of tutti: run python -m tutti.torch build");
    functions = table;
}

// Those that torch has not let go of, in the order in which they were made.
class Registry {
  public:
    void add(const c10::intrusive_ptr<Backend> &backend)
    {
        std::lock_guard<std::mutex> lock(mutex_);
        backends_.remove_if([](const auto &entry) { return entry.expired(); });
        backends_.emplace_back(backend);
    }

    std::vector<c10::intrusive_ptr<Backend>> live()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        std::vector<c10::intrusive_ptr<Backend>> result;
        for (auto &entry : backends_) {
            if (auto backend = entry.lock()) {
                result.push_back(std::move(backend));
            }
        }
        return result;
    }

  private:
    std::mutex mutex_;
    std::list<c10::weak_intrusive_ptr<Backend>> backends_;
};

Registry registry;

c10::intrusive_ptr<Backend> make(std::shared_ptr<Communicator> communicator, int rank, int size,
                                 milliseconds timeout)
{
    auto backend = c10::make_intrusive<Backend>(std::move(communicator), rank, size, timeout);
    registry.add(backend);
    return backend;
}

c10::intrusive_ptr<Backend> join(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size,
                                 milliseconds timeout)
{
    return make(Communicator::join(store, rank, size, timeout), rank, size, timeout);
}

c10::intrusive_ptr<Backend> subgroup(const c10::intrusive_ptr<Backend> &root, const std::vector<int> &ranks,
                                     int rank, milliseconds timeout)
{
    auto communicator = Communicator::subgroup(root->communicator(), ranks, timeout);
    return make(std::move(communicator), rank, static_cast<int>(ranks.size()), timeout);
}

} // namespace
} // namespace tutti_torch

PYBIND11_MODULE(_backend, module)
{
    using namespace tutti_torch;
    using Unlocked = py::call_guard<py::gil_scoped_release>;

    module.doc() = "torch's communication backend over tutti's C interface; use tutti.torch";
    python_thread = std::this_thread::get_id();
    check_signals = run_signal_handlers;
    run_unlocked = run_without_lock;
    py::module_::import("torch.distributed");

    module.def("set_functions", &set_functions, "The table of tutti._c, before anything else.");
    module.def(
        "live", [] { return registry.live(); }, "The backends that torch has not let go of, oldest first.");
    module.def("join", &join, py::arg("store"), py::arg("rank"), py::arg("size"), py::arg("timeout"),
               Unlocked());
    module.def("subgroup", &subgroup, py::arg("root"), py::arg("ranks"), py::arg("rank"), py::arg("timeout"),
               Unlocked());

    py::class_<Backend, c10d::Backend, c10::intrusive_ptr<Backend>>(module, "Backend")
        .def(
            "_abort_because",
            [](Backend &backend, const std::string &reason) { backend.communicator()->abort(reason); },
            Unlocked())
        .def(
            "_empty",
            [](Backend &backend, const std::vector<int64_t> &sizes, const py::object &dtype) {
                auto options = at::TensorOptions().dtype(torch::python::detail::py_object_to_dtype(dtype));
                py::gil_scoped_release unlocked;
                return backend.empty(sizes, options);
            },
            py::arg("sizes"), py::arg("dtype"));
}
