"""A long run: ranks work through operations of every kind and check each element of each result, one of them is killed
every few seconds, and the others re-form and go on.  When fewer than 4 are left, the job ends normally and the next
one begins, with fresh processes in the place of those that were killed.  Three processes live from the first job to
the last: what they hold between two jobs must be what they held after the first."""

import time

import fleet
from fleet import percentile

ELDERS = 3
RANKS_MIN = ELDERS + 1  # with fewer the job ends
REPORT_EVERY_S = 10
REFORM_MS_MAX = 1000  # from the kill to the new group, on every survivor
EVENT_S = 30  # a failure that takes longer counts as a hang
SETTLE_S = 10  # until the rendezvous has seen that everybody has gone


class Soak:
    def __init__(self, group, kill_every_s, seconds, limits):
        self.group, self.limits = group, limits
        self.kill_every_s = kill_every_s
        self.end = time.monotonic() + seconds
        self.jobs = self.kills = 0
        self.notice_ms, self.reform_ms = [], []
        self.reports = {}  # the latest of each member
        self.settled = {}  # of each elder: what it held after its first job
        self.service_descriptors = fleet.descriptors(group.service.process.pid)
        self.service_kib = []  # after each job
        self.growth_max_kib = 0

    def over(self):
        return time.monotonic() >= self.end

    def run(self):
        while not self.over():
            self.group.assemble()
            self.elders = self.group.children[:ELDERS]
            self.jobs += 1
            next_kill = time.monotonic() + self.kill_every_s
            while not self.over() and len(self.group.ranks) >= RANKS_MIN:
                self.look_until(min(next_kill, self.end))
                if not self.over():
                    self.kill_one()
                    next_kill += self.kill_every_s
            self.group.leave()
            self.look_at_what_is_left()
        self.group.finish()

    def look_until(self, moment):
        """Asks each rank from time to time whether it moves on."""
        while (left := moment - time.monotonic()) > 0:
            time.sleep(min(left, REPORT_EVERY_S))
            for member in self.group.ranks:
                before, now = self.reports.get(member), self.report(member)
                if before and now["operations"] == before["operations"]:
                    self.group.problems.append(f"{member} has completed nothing since the last report: {now}")
            self.group.expect_peace()

    def report(self, member):
        self.reports[member] = self.group.report(member)
        return self.reports[member]

    def kill_one(self):
        group = self.group
        victim = group.random.choice([member for member in group.ranks if member not in self.elders])
        rank = group.ranks.index(victim)
        since_us = fleet.now_us()
        victim.kill()
        failures, reforms = group.collect_failure("TUTTI_ERR_PEER_LOST", rank, EVENT_S)
        victim.finish()
        self.kills += 1
        self.notice_ms += [(int(failed["us"]) - since_us) / 1000 for failed in failures]
        self.reform_ms += [(int(reformed["us"]) - since_us) / 1000 for reformed in reforms]

    def look_at_what_is_left(self):
        """Between two jobs nobody holds anything but what libuv and the C library keep for the process."""
        for member in self.elders:
            now = self.report(member)
            problems, growth_kib = fleet.compare_holdings(member, self.settled.setdefault(member, now), now,
                                                          self.limits)
            self.group.problems += [f"after job {self.jobs}: {problem}" for problem in problems]
            self.growth_max_kib = max(self.growth_max_kib, growth_kib)
        pid, deadline = self.group.service.process.pid, time.monotonic() + SETTLE_S
        while (held := fleet.descriptors(pid)) != self.service_descriptors:
            if time.monotonic() > deadline:
                self.group.problems.append(f"the rendezvous holds {held} descriptors after job {self.jobs}, and "
                                           f"{self.service_descriptors} at its start")
                break
            time.sleep(0.02)
        self.service_kib.append(fleet.rss_kib(pid))
        growth_kib = self.service_kib[-1] - self.service_kib[0]
        if self.limits and growth_kib >= fleet.GROWTH_KIB_MAX:
            self.group.problems.append(f"after job {self.jobs}: the rendezvous has grown by {growth_kib} KiB")

    def table(self):
        width = 17
        columns = ("operations", "failures", "reforms", "wrong",
                   "descriptors", "threads", "mappings", "mapped_kib", "rss_kib")
        yield f"{'':20}" + "".join(f" {name:>{width}}" for name in columns)
        for member in self.elders:
            first, last = self.settled[member], self.reports[member]
            cells = [str(last[name]) for name in columns[:4]]
            cells += [f"{first[name]} -> {last[name]}" for name in columns[4:]]
            yield f"{str(member):20}" + "".join(f" {cell:>{width}}" for cell in cells)


def main():
    arguments = fleet.parser(__doc__, "soaker")
    arguments.add_argument("--ranks", type=int, default=8, choices=range(RANKS_MIN, 9))
    arguments.add_argument("--minutes", type=float, default=30)
    arguments.add_argument("--kill-every", type=float, default=20, metavar="SECONDS")
    arguments.add_argument("--transports", default="shm,uds,tcp")
    arguments = fleet.parse(arguments, minutes=0.4, kill_every=3)

    with fleet.Fleet(arguments.tutti, arguments.program, "mixed", arguments.ranks, arguments.seed,
                     TUTTI_TRANSPORTS=arguments.transports, GLIBC_TUNABLES=fleet.EXACT_MALLOC) as group:
        soak = Soak(group, arguments.kill_every, arguments.minutes * 60, not arguments.no_limits)
        soak.run()

    print("\n".join(soak.table()))
    problems = group.problems
    if not arguments.no_limits:
        problems += [f"a rank was in its new group {ms:.1f} ms after the kill, and {REFORM_MS_MAX} ms are the limit"
                     for ms in soak.reform_ms if ms > REFORM_MS_MAX]
    wrong = sum(report["wrong"] for report in soak.reports.values())
    if wrong:
        problems.append(f"{wrong} wrong results")
    if not soak.kills or soak.jobs < 2:
        problems.append(f"{soak.kills} kills in {soak.jobs} jobs: the run was too short to say anything")
    operations = sum(report["operations"] for report in soak.reports.values())
    fleet.verdict(problems, f"{arguments.minutes:g} min, {arguments.ranks} ranks, {soak.jobs} jobs, {soak.kills} "
                            f"kills, {operations} operations, {wrong} wrong; kill to error p99 "
                            f"{percentile(soak.notice_ms, 99) if soak.kills else 0:.1f} ms, to the new group max "
                            f"{max(soak.reform_ms, default=0):.1f} ms; growth max {soak.growth_max_kib} KiB")


if __name__ == "__main__":
    main()
