"""How torch and its backend come together: the entry point, and compiling, finding and loading the compiled module.

Runs in an environment with torch and tutti (.venv).  The real backend takes a minute to compile: here the compiler
is given a module of a few lines.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "python-bindings" / "src"
MODULE = """
#include <Python.h>
#include <c10/macros/Export.h>
#include "tutti/tutti.h"
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_backend", nullptr, -1, nullptr};
extern "C" PyMODINIT_FUNC PyInit__backend()
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddIntConstant(module, "answer", 42);
    return module;
}
"""


class TorchAndTutti(unittest.TestCase):
    """What `import torch` and `import tutti.torch` do, each in a process of its own."""

    def run_python(self, code, broken=False, **environment):
        """Runs ``code``; tutti cannot be imported where it is ``broken``."""
        with tempfile.TemporaryDirectory() as folder:
            if broken:
                Path(folder, "tutti").mkdir()
                Path(folder, "tutti", "__init__.py").write_text("raise OSError('this tutti is broken')")
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUTTI_", "TORCH_"))}
            done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
                                  env={**kept, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1", **environment},
                                  timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_import_torch_registers_the_backend_and_imports_nothing_of_tutti(self):
        self.run_python("""
            import sys, torch
            assert torch.distributed.Backend.TUTTI == "tutti"
            assert torch.distributed.Backend.backend_capability["tutti"] == ["cpu"]
            assert torch.distributed.Backend.default_device_backend_map["cpu"] == "gloo"
            assert "tutti" not in sys.modules
        """)

    def test_a_broken_tutti_is_told_by_the_call_that_asks_for_it_and_by_no_other(self):
        self.run_python("""
            import torch, torch.distributed as dist
            store = dist.HashStore()
            try:
                dist.init_process_group("tutti", store=store, rank=0, world_size=1)
            except OSError as error:
                assert "this tutti is broken" in str(error), error
            else:
                raise AssertionError("a broken tutti made a group")
        """, broken=True)

    def test_import_of_tutti_torch_registers_where_torch_does_not(self):
        self.run_python("""
            import torch
            assert not hasattr(torch.distributed.Backend, "TUTTI")
            import tutti.torch
            assert torch.distributed.Backend.TUTTI == "tutti"
        """, TORCH_DEVICE_BACKEND_AUTOLOAD="0")

    def test_registering_again_changes_nothing(self):
        self.run_python("""
            import torch, _tutti_torch
            before = list(torch.distributed.Backend.backend_list)
            _tutti_torch.register()
            assert before == torch.distributed.Backend.backend_list and before.count("tutti") == 1
        """)


class Building(unittest.TestCase):
    """The compiled module, with a package of our own that has sources of a few lines."""

    @classmethod
    def setUpClass(cls):
        importlib.import_module("torch")  # which cannot be imported a second time: setUp() restores sys.modules

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cache = self.folder / "cache"
        changed = {"XDG_CACHE_HOME": str(self.cache), "CXX": "", "CXXFLAGS": "", "LDFLAGS": ""}
        self.enterContext(mock.patch.dict(os.environ, changed))
        self.enterContext(mock.patch.dict(sys.modules))
        self.package = self.folder / "torch"
        (self.package / "csrc" / "tutti").mkdir(parents=True)
        shutil.copy(ROOT / "include" / "tutti" / "tutti.h", self.package / "csrc" / "tutti")
        shutil.copy(SOURCE / "tutti" / "torch" / "_build.py", self.package)
        self.module_source = self.package / "csrc" / "module.cpp"
        self.module_source.write_text(MODULE)
        (self.package / "csrc" / "other.cpp").write_text("int other() { return 1; }\n")
        spec = importlib.util.spec_from_file_location("build_under_test", self.package / "_build.py")
        self.subject = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.subject)
        sys.modules.pop(self.subject.MODULE, None)

    def enterContext(self, context):  # as unittest's own, which came with Python 3.11
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def modules_in(self, folder):
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def test_what_was_built_is_found_and_loaded(self):
        self.assertIsNone(self.subject.find())
        path = self.subject.build()
        self.assertEqual(path.parent, self.package / "built")
        self.assertEqual(self.subject.find(), path)
        module = self.subject.load()
        self.assertEqual((module.__name__, module.answer), ("tutti.torch._backend", 42))
        self.assertIs(self.subject.load(), module)

    def test_what_is_missing_is_told_with_the_line_to_type(self):
        wanted = f"run `{sys.executable} -m tutti.torch build`"
        with self.assertRaisesRegex(ImportError, f"has not been built for torch .*: {wanted} ") as caught:
            self.subject.load()
        self.assertNotIn("\n", str(caught.exception))

    def test_a_module_is_built_once_and_again_when_its_sources_change(self):
        path = self.subject.build()
        built = path.stat().st_mtime_ns
        self.subject.build()
        self.assertEqual(path.stat().st_mtime_ns, built)
        self.module_source.write_text(MODULE.replace("42", "43"))
        self.assertIsNone(self.subject.find())
        self.assertNotEqual(self.subject.build(), path)
        self.assertEqual(self.subject.load().answer, 43)
        self.assertEqual(self.modules_in(path.parent), [self.subject.find()], "the stale module is still there")

    def test_force_builds_anew(self):
        path = self.subject.build()
        inode = path.stat().st_ino
        with path.open("rb"):  # the number cannot be given to the new file
            self.subject.build(force=True)
            self.assertNotEqual(path.stat().st_ino, inode)

    def test_a_package_that_cannot_be_written_has_its_module_in_the_cache(self):
        (self.package / "built").write_text("in the way")
        path = self.subject.build()
        self.assertEqual(path.parent, self.cache / "tutti" / "torch")
        self.assertEqual(self.subject.find(), path)

    def test_two_that_build_at_once_do_not_disturb_each_other(self):
        program = [sys.executable, str(self.package / "_build.py"), str(self.folder / "made")]
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(subprocess.run, program, stdout=subprocess.PIPE, text=True, timeout=100)
                    for _ in range(2)]
        self.assertEqual([run.result().returncode for run in runs], [0, 0])
        made = self.modules_in(self.folder / "made")
        self.assertEqual(len(made), 1, made)
        self.assertEqual(made[0].name, self.subject.build().name)

    def test_a_fault_of_the_compiler_is_shown_and_leaves_nothing(self):
        self.module_source.write_text('#include "tutti/tutti.h"\n#error this cannot be compiled\n')
        with self.assertRaisesRegex(self.subject.BuildError, "(?s)this cannot be compiled.*exit status 1"):
            self.subject.build()
        self.assertEqual(self.modules_in(self.package / "built"), [])

    def test_a_missing_compiler_is_named(self):
        os.environ["CXX"] = "no-such-compiler -m64"
        with self.assertRaisesRegex(self.subject.BuildError, "'no-such-compiler', which the variable CXX names"):
            self.subject.build()
        os.environ["CXX"] = ""
        with mock.patch.dict(os.environ, PATH=str(self.folder)):
            with self.assertRaisesRegex(self.subject.BuildError, "apt-get install g"):
                self.subject.build()

    def test_missing_headers_of_python_are_named(self):
        paths = {**self.subject.sysconfig.get_paths(), "include": str(self.folder)}
        with mock.patch.object(self.subject.sysconfig, "get_paths", return_value=paths):
            with self.assertRaisesRegex(self.subject.BuildError, "apt-get install python3-dev"):
                self.subject.build()

    def test_a_module_that_cannot_be_loaded_is_told_with_the_line_that_mends_it(self):
        self.subject.build().write_bytes(b"no module")
        with self.assertRaisesRegex(ImportError, f"cannot be loaded .*{sys.executable} -m tutti.torch build --force"):
            self.subject.load()

    def test_a_torch_that_cannot_be_imported_is_told(self):
        sys.modules["torch"] = None
        with self.assertRaisesRegex(ImportError, "PyTorch cannot be imported by .* -m pip install torch"):
            self.subject.load()


if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("_tutti_torch") is None:
        print("torch, or tutti, is not installed here: how they come together is not tested")
        sys.exit(77)
    unittest.main()
