"""Loads one Python function and serves it: the action loop of OpenWhisk.

Started in one of two ways:
  launcher.py single              reads its letter from stdin, loads the function, serves it
  launcher.py zygote FILES MODULE...
                                  imports the modules, then forks one such process per request, each in
                                  its own PID, mount, IPC and UTS namespaces where it is asked to

The zygote never runs a function's code. What it is asked for arrives on descriptor 0, a socket, as one JSON
object with the four descriptors of the new process; see `nursery.rs` for both ends' words.
"""
import json
import os
import sys

ANSWER = 3


# ---- One function ---------------------------------------------------------------------------------------

def say(line):
    """Writes one line to the answer pipe, however long it is."""
    line = memoryview(line)
    while line:
        line = line[os.write(ANSWER, line):]


def text_of(error):
    return str(error) or type(error).__name__


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # The function closed or replaced it; what it lost is its own.


def broke(message):
    """What no JSON object starts with: the function broke, and this is how."""
    return b'!' + json.dumps(message).encode() + b'\n'


class CannotLoad(Exception):
    """Says what is wrong with the code, for its developer."""


def load(letter):
    """Returns the function's entry point."""
    import importlib.util
    folder, name = letter['folder'], letter['main']
    os.environ.update(letter['env'])
    file = os.path.join(folder, '__main__.py')
    if not os.path.isfile(file):
        raise CannotLoad('The zip has no __main__.py at its top.')
    sys.path.insert(0, folder)
    packages = os.path.join(folder, 'virtualenv', 'lib')
    if os.path.isdir(packages):
        for version in sorted(os.listdir(packages)):
            sys.path.append(os.path.join(packages, version, 'site-packages'))
    if letter['archive']:
        os.chdir(folder)
    # Not `__main__`: what stands under `if __name__ == "__main__"` is for the command line.
    spec = importlib.util.spec_from_file_location('main__', file)
    module = importlib.util.module_from_spec(spec)
    sys.modules['main__'] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise CannotLoad('The code has no function %r. Define it, or name another entry point.' % name)
    return function


def print_error(error, own_frames):
    """The traceback as its developer would see it, without the launcher's frames."""
    import traceback
    trace = error.__traceback__
    for _ in range(own_frames):
        trace = trace and trace.tb_next
    while trace and 'importlib' in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


def encoded(result):
    """The answer's line."""
    if not isinstance(result, (dict, list, tuple)):
        return broke('The action did not return a dictionary or array.')
    try:
        try:
            text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(',', ':')).encode()
        except UnicodeEncodeError:  # A lone surrogate: legal in a str, and in JSON only if escaped.
            text = json.dumps(result, allow_nan=False, separators=(',', ':')).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return broke('The action did not return a dictionary or array that is JSON: ' + text_of(error))
    return text + b'\n'


def serve(function, orders):
    """Runs the function once for each line, until there are no more."""
    environ, known = os.environ, set()
    while True:
        line = orders.readline()
        if not line:
            flush()
            os._exit(0)
        try:
            order = json.loads(line)
            value = order.pop('value', {})
        except (ValueError, AttributeError, RecursionError) as error:
            say(broke('The argument is not JSON: ' + text_of(error)))
            continue
        for name in known.difference(order):
            environ.pop('__OW_' + name.upper(), None)
        known = set(order)
        for name, text in order.items():
            environ['__OW_' + name.upper()] = str(text)
        line = order = None
        try:
            result = function(value)
            if hasattr(result, '__await__'):
                import asyncio
                result = asyncio.run(_awaited(result))
        except Exception as error:
            print_error(error, 1)
            result = {'error': text_of(error)}
        except SystemExit as error:
            end(error)
        except BaseException as error:
            print_error(error, 1)
            end(SystemExit(1))
        value = None
        answer = encoded(result)
        result = None
        flush()
        say(answer)


async def _awaited(result):
    return await result


def end(error):
    """`sys.exit`: the process ends without an answer."""
    if error.code is not None and not isinstance(error.code, int):
        print(error.code, file=sys.stderr)
    flush()
    os._exit(error.code & 0xff if isinstance(error.code, int) else 0 if error.code is None else 1)


def log(descriptor):
    return open(descriptor, 'w', buffering=1, encoding='utf-8', errors='backslashreplace', closefd=False)


def orders_of():
    return os.fdopen(0, 'rb', buffering=65536, closefd=False)


def live(orders):
    """The whole life of a function's process, once its descriptors are 0 to 3."""
    import io
    # The orders are not the function's to read.
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BytesIO())
    # Made anew: the zygote's own stand on files, not pipes. Line by line, so that what was printed before
    # a crash or a timeout is not lost.
    sys.stdout = sys.__stdout__ = log(1)
    sys.stderr = sys.__stderr__ = log(2)
    line = orders.readline()
    if not line:
        os._exit(0)
    letter = json.loads(line)
    try:
        function = load(letter)
    except SystemExit as error:
        end(error)
    except BaseException as error:
        if isinstance(error, CannotLoad):
            message = str(error)
        else:
            import traceback
            print_error(error, 2)
            last = traceback.format_exception_only(type(error), error)[-1].strip()
            where = ' (line %s)' % error.lineno if isinstance(error, SyntaxError) else ''
            message = 'The code could not be loaded: ' + last + where
        flush()
        say(broke(message))
        os._exit(1)
    flush()
    say(b'{"ok":true}\n')
    serve(function, orders)


# ---- The zygote -----------------------------------------------------------------------------------------

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID = 0x20000, 0x4000000, 0x8000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 2, 4, 8, 4096
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38


class Kernel:
    """The few system calls that Python has no words for."""

    def __init__(self):
        import ctypes
        self.library = ctypes.CDLL(None, use_errno=True)
        self.errno = ctypes.get_errno
        self.long = ctypes.c_ulong

    def check(self, doing, result):
        if result != 0:
            raise OSError(self.errno(), 'could not %s: %s' % (doing, os.strerror(self.errno())))

    def unshare(self, flags):
        self.check('enter new namespaces', self.library.unshare(flags))

    def setns(self, descriptor, flags):
        self.check('return to a namespace', self.library.setns(descriptor, flags))

    def mount(self, source, target, kind, flags, options):
        result = self.library.mount(source, target, kind, self.long(flags), options)
        self.check('mount ' + target.decode(), result)

    def set_host_name(self, name):
        self.check('set the host name', self.library.sethostname(name, len(name)))

    def prctl(self, option, value):
        arguments = [self.long(number) for number in (value, 0, 0, 0)]
        self.check('restrict privileges', self.library.prctl(option, *arguments))


def be_born(descriptors, kernel):
    """Turns a fork of the zygote into a process of its own. With `settle`, mirrors `birth/child.rs`."""
    import resource
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.setsid()
    if kernel:
        kernel.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)
        kernel.mount(b'proc', b'/proc', b'proc', MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def settle(request, kernel, open_files):
    """Gives it its code and its scratch space, and takes everything else from it."""
    import resource
    if kernel:
        kernel.set_host_name(request['name'].encode())
        kernel.mount(os.fsencode(request['code']), b'/run/function', None, MS_BIND, None)
        options = 'size=%d,mode=0700,uid=%d,gid=%d' % (request['tmp'], request['uid'], request['uid'])
        kernel.mount(b'tmpfs', b'/tmp', b'tmpfs', MS_NOSUID | MS_NODEV, options.encode())
    os.chdir(request['home'])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    if request['uid'] is not None:
        os.setgroups([])
        os.setresgid(request['uid'], request['uid'], request['uid'])
        os.setresuid(request['uid'], request['uid'], request['uid'])
    if kernel:
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
        kernel.prctl(PR_SET_DUMPABLE, 1)  # Else its own /proc/self belongs to root.


def zygote(open_files, modules):
    """Forks a function's process for each request, until the socket ends."""
    import array
    import gc
    import importlib
    import select
    import signal
    import socket
    gc.disable()
    control = socket.socket(fileno=os.dup(0))
    null = os.open('/dev/null', os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    try:
        for need in ('pidfd_open', 'fork'):
            if not hasattr(os, need):
                raise OSError('this Python has no os.' + need)
        namespaced = os.environ.pop('WINDFALL_NAMESPACES', '') == '1'
        kernel = Kernel() if namespaced else None
        home = os.open('/proc/self/ns/pid', os.O_RDONLY) if namespaced else None
        for module in modules:
            try:
                importlib.import_module(module)
            except Exception as error:
                print('windfall: cannot preload %s: %s' % (module, text_of(error)), file=sys.stderr)
        # What loading and failing need, so that no function waits for it.
        for module in ('importlib.util', 'io', 'traceback', 'linecache', 'resource', 'random', 'inspect'):
            importlib.import_module(module)
        gc.collect()
        gc.freeze()
    except Exception as error:
        control.send(json.dumps({'error': text_of(error)}).encode())
        return
    control.send(b'{"ready":true}')
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    children = {}
    while True:
        for descriptor, _ in waiting.poll():
            if descriptor in children:
                waiting.unregister(descriptor)
                os.waitpid(children.pop(descriptor), 0)
                os.close(descriptor)
                continue
            message, ancillary, _, _ = control.recvmsg(65536, socket.CMSG_SPACE(8 * 4))
            if not message:
                for child in children:
                    signal.pidfd_send_signal(child, signal.SIGKILL)
                os._exit(0)
            received = array.array('i')
            for _, _, data in ancillary:
                received.frombytes(data[:len(data) - len(data) % received.itemsize])
            request = json.loads(message)
            try:
                if kernel:
                    kernel.unshare(CLONE_NEWPID)
                try:
                    pid = os.fork()
                    if pid == 0:
                        become(request, received, kernel, open_files)
                finally:
                    if kernel:
                        # Else the next unshare is refused.
                        kernel.setns(home, CLONE_NEWPID)
                child = os.pidfd_open(pid)
            except OSError as error:
                answer = {'id': request['id'], 'error': text_of(error)}
                control.send(json.dumps(answer).encode())
                continue
            finally:
                for descriptor in received:
                    os.close(descriptor)
            children[child] = pid
            waiting.register(child, select.POLLIN)
            answer = json.dumps({'id': request['id'], 'pid': pid}).encode()
            control.sendmsg([answer], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [child]))])


def become(request, descriptors, kernel, open_files):
    """In the fork; never returns."""
    import gc
    try:
        try:
            be_born(descriptors, kernel)
            orders = orders_of()
            if request['work'] == 'Spare':
                line = orders.readline()
                if not line:
                    os._exit(0)
                request = json.loads(line)
            settle(request, kernel, open_files)
            gc.enable()
        except BaseException as error:
            os.write(ANSWER, b'?' + json.dumps(text_of(error)).encode() + b'\n')
            os._exit(1)
        live(orders)
    except BaseException as error:
        print_error(error, 0)
        flush()
    finally:
        os._exit(1)


if __name__ == '__main__':
    if sys.argv[1] == 'zygote':
        zygote(int(sys.argv[2]), sys.argv[3:])
    else:
        live(orders_of())
