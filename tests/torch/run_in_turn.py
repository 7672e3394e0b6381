"""Runs scripts one after the other in processes that have imported torch already, for test_training.py.

    run_in_turn.py JSON     [[port, output file, script, argument, ...], ...]

Each is run by a forked child, so that it finds a fresh process, with MASTER_PORT set to its port, so that it finds an
empty store.  Everything else is as the launcher of this process has set it.  Ends with the first failure.
"""

import json
import os
import runpy
import sys
import traceback

# What the scripts import, and what the first step of an optimizer does.
import sklearn.datasets  # noqa: F401
import torch._dynamo
import torch.distributed.fsdp
import torch.distributed.tensor.parallel  # noqa: F401
from torch.distributed import distributed_c10d

#: The process groups of a script, to the end of its process: the destructor of Gloo's waits for its threads with the
#: interpreter's lock (torch 2.13), and hangs where one of these is just letting go of a tensor.
KEPT = []


def keep_groups():
    make = distributed_c10d._new_process_group_helper

    def make_and_keep(*arguments, **named):
        KEPT.append(make(*arguments, **named))
        return KEPT[-1]

    distributed_c10d._new_process_group_helper = make_and_keep


def run(port, output, script, arguments):
    keep_groups()
    os.environ["MASTER_PORT"] = str(port)
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(script))
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
    runpy.run_path(script, run_name="__main__")


def main():
    for port, output, script, *arguments in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(port, output, script, arguments)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status != 0:
            sys.exit(f"{' '.join([script, *arguments])} ended with exit status {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
