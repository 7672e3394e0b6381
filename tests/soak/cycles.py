"""Joins and leaves a group again and again in the same processes: what they hold after some cycles of warm-up and at
the end must be the same.  With --reform each group is aborted and re-formed before it ends."""

import fleet

TELL_EVERY = 50  # cycles between two lines of the program
CYCLES_S = 120  # in which the next line must come


def follow(member, cycles, warm_up):
    """What it held after the warm-up, and at the end."""
    warm = None
    for cycle in sorted({warm_up, *range(TELL_EVERY, cycles + 1, TELL_EVERY)}):
        told = member.event("warm" if cycle == warm_up else "cycle", CYCLES_S)
        warm = told if cycle == warm_up else warm
    return fleet.numbers(warm), fleet.numbers(member.event("end", CYCLES_S))


def main():
    arguments = fleet.parser(__doc__, "cycles")
    arguments.add_argument("--ranks", type=int, default=4)
    arguments.add_argument("--cycles", type=int, default=3000)
    arguments.add_argument("--warm-up", type=int, default=100, help="cycles; less than all")
    arguments.add_argument("--reform", action="store_true")
    arguments = fleet.parse(arguments, cycles=300)
    kind = "reform" if arguments.reform else "finalize"

    with fleet.Crew(arguments.tutti) as crew:
        for rank in range(arguments.ranks):
            crew.start(arguments.program, kind, arguments.cycles, arguments.warm_up, TUTTI_RANK=rank,
                       TUTTI_SIZE=arguments.ranks, GLIBC_TUNABLES=fleet.EXACT_MALLOC)
        held = [follow(member, arguments.cycles, arguments.warm_up) for member in crew.children]
        crew.finish()

    growth_max_kib = 0
    for member, (warm, end) in zip(crew.children, held):
        print(f"{member}: " + ", ".join(f"{what} {warm[what]} -> {end[what]}"
                                        for what in ("descriptors", "threads", "mappings", "mapped_kib", "rss_kib")))
        problems, growth_kib = fleet.compare_holdings(member, warm, end, not arguments.no_limits)
        crew.problems += problems
        growth_max_kib = max(growth_max_kib, growth_kib)
    fleet.verdict(crew.problems, f"{arguments.cycles} cycles of init, {'abort, re-form, ' if arguments.reform else ''}"
                                 f"finalize of {arguments.ranks} ranks: growth max {growth_max_kib} KiB")


if __name__ == "__main__":
    main()
