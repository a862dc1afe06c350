"""``python -m neuronc``."""

from neuronc.cli.process import run_process

if __name__ == "__main__":
    run_process()
