"""Each side of a comparison is a process of its own that speaks lines of JSON. It is stopped while
it has nothing to do, so that its idle threads, spinning or not, disturb nobody."""
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1


class WorkerError(Exception):
    """What a worker answered instead of a result."""


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """The controller's end."""

    def __init__(self, command, environment, log):
        self.name = os.path.basename(command[-1])
        self.process = subprocess.Popen(command, env=environment, text=True, stderr=log,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=_die_with_parent)
        self.stopped = False

    def ask(self, do, **arguments):
        """The result of handler `do`; WorkerError if it failed or the process ended."""
        if self.stopped:
            self.process.send_signal(signal.SIGCONT)
        self.stopped = False
        try:
            self.process.stdin.write(json.dumps({'do': do, **arguments}) + '\n')
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ''
        if not line:
            raise WorkerError(f'{self.name} ended with {self.process.wait()} while it did "{do}"')
        answer = json.loads(line)
        if 'error' in answer:
            raise WorkerError(answer['error'])
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True
        return answer['result']

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def clock():
    """Seconds: of the wall, or of the CPU that this process had (compare.py --clock cpu)."""
    cpu = os.environ.get('COMPARE_CLOCK') == 'cpu'
    return time.process_time() if cpu else time.perf_counter()


def serve(handlers):
    """The worker's end: answers until its input ends. handlers: {name: function of keywords}.
    What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {'result': handlers[request.pop('do')](**request)}
        except Exception as error:  # whatever it is, the controller reports it
            answer = {'error': f'{type(error).__name__}: {error}'}
        answers.write(json.dumps(answer) + '\n')
        answers.flush()
