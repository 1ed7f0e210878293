import subprocess
import sys


def test_others_compute_alone_and_the_networks_do_not():
    """In a process of its own, as it changes all threads that come after."""
    program = """
import threading, torch
from backend.predicting.networks import computing_alone, network_thread
networks = network_thread()
count = lambda: (torch.ones(2).sum(), torch.get_num_threads())[1]
def team():
    torch.set_num_threads(3)
    return count()
assert networks.submit(team).result() == 3
computing_alone()
seen = []
other = threading.Thread(target=lambda: seen.append(count()))
other.start()
other.join()
assert seen == [1], seen
assert networks.submit(count).result() == 3
networks.close()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
