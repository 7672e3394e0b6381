"""Tells PyTorch about the backend "tutti": what the entry point `torch.backends` names.

`import torch` calls :func:`register`, so that ``torch.distributed.init_process_group("tutti")`` needs no import of
tutti.  A fault here would break `import torch` for every program of the environment, also for those that never
heard of tutti: so nothing of tutti is imported before a group is made, and nothing is ever raised.
"""


def register() -> None:
    """Registers the backend; does nothing where it is registered already, or where torch has no torch.distributed.

    Never raises.
    """
    try:
        import torch.distributed as distributed  # loaded already when torch calls its entry points

        if distributed.is_available() and not hasattr(distributed.Backend, "TUTTI"):
            distributed.Backend.register_backend("tutti", _create, extended_api=True, devices=["cpu"])
    except Exception:  # init_process_group("tutti") then says that it knows no such backend
        return


def _create(options, backend_options):
    """Makes the backend of one group: ``options`` is torch's _DistributedBackendOptions (store, rank, ranks, time-out).

    Whatever is wrong with the installation of tutti is raised here, in the call that asked for tutti.
    """
    import tutti.torch

    return tutti.torch._create(options, backend_options)
