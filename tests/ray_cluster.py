"""A Ray cluster on this machine, for tests: nodes are processes that can be killed."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

# In a process of its own: Ray leaves threads and signal handlers where it is imported.
_SCRIPT = """
import json, os, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = []
for env in json.loads(sys.argv[1]):
    os.environ.update(env)
    nodes.append(cluster.add_node(num_cpus=1))
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes[int(line)], allow_graceful=False)
    print("killed", line.strip(), flush=True)
cluster.shutdown()
"""


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A running cluster of a head without CPUs and nodes of one CPU each."""

    process: "subprocess.Popen[str]"
    address: str

    def kill(self, number: int) -> None:
        """End a node and all that runs on it, as a power cut would."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert _line(self.process, "killed") == str(number)


@contextmanager
def ray_cluster(*nodes: Mapping[str, str], env: Mapping[str, str]) -> Iterator[RayCluster]:
    """A cluster with a node for each of ``nodes``, which add to the environment ``env``."""
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, json.dumps([dict(node) for node in nodes])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**env, "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"},
    ) as process:
        try:
            yield RayCluster(process=process, address=_line(process, "address"))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


def _line(process: "subprocess.Popen[str]", word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        first, _, rest = line.strip().partition(" ")
        if first == word:
            return rest
    message = f"the cluster ended before it said {word!r}"
    raise AssertionError(message)
