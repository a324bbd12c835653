"""Files that would do harm, by what they hold: pickles that call, pickles that are broken, tensors that lie."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

from foreign_files import Calls, push, storage, tensor, text, whole, write_zip

WEIGHT = [1.0, 2.0]
TOUCH = "touch canary"
CODE = "open('canary', 'w').close()"
LAUGHS = b"](K\x01K\x02e" + b"".join(b"q\x01](h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01e" for _ in range(60))
SYSTEM = Calls("os.system", TOUCH)
# What pickle would run: each is read, and is inert. All make a file "canary" where they run.
HOSTILE: dict[str, bytes] = {
    "os.system": push(SYSTEM),
    "posix.system": push(Calls("posix.system", TOUCH)),
    "nt.system": push(Calls("nt.system", TOUCH)),
    "subprocess": push(Calls("subprocess.Popen", ["touch", "canary"])),
    "eval": push(Calls("builtins.eval", CODE)),
    "exec": push(Calls("builtins.exec", CODE)),
    "exec of Python 2": push(Calls("__builtin__.exec", CODE)),
    "compile": push(Calls("builtins.exec", Calls("builtins.compile", CODE, "x", "exec"))),
    "import": push(Calls("builtins.__import__", "antigravity")),
    "open": push(Calls("builtins.open", "canary", "w")),
    "getattr chain": push(Calls("builtins.getattr", Calls("builtins.__import__", "os"), "system"))
    + push((TOUCH,))
    + b"R",
    "dotted name": push(Calls("os.path.os.system", TOUCH)),
    "attrgetter": push(Calls("operator.attrgetter", "system")) + push((1,)) + b"R",
    "methodcaller": push(Calls("operator.methodcaller", "system", TOUCH)) + push((1,)) + b"R",
    "partial": push(Calls("functools.partial", Calls("os.system"), TOUCH)),
    "map": push(Calls("builtins.list", Calls("builtins.map", Calls("os.system"), [TOUCH]))),
    "runpy": push(Calls("runpy.run_path", "evil.py")),
    "ctypes": push(Calls("ctypes.CDLL", "evil.so")),
    "torch.hub": push(Calls("torch.hub.load", "evil/repo", "net", "check")),
    "torch.load": push(Calls("torch.load", "evil.pt")),
    "torch.jit": push(Calls("torch.jit.load", "evil.pt")),
    "torch.storage of a file": push(Calls("torch.UntypedStorage.from_file", "evil.bin", True, 10)),
    "load from bytes": push(Calls("torch.serialization.load", "evil.pt")),
    "numpy.load": push(Calls("numpy.load", "evil.npy", None, True)),
    "numpy runstring": push(Calls("numpy.testing._private.utils.runstring", CODE, {})),
    "pickle.loads": push(Calls("pickle.loads", pickle.dumps(1))),
    "dill": push(
        Calls("dill._dill._create_function", Calls("dill._dill._create_code", 0, CODE), {}, "f", None, None, {})
    ),
    "dill type": push(Calls("dill._dill._load_type", "CodeType")) + push((0,)) + b"R",
    "cloudpickle": push(Calls("cloudpickle.cloudpickle._make_function", 1, {})),
    "weights of timm": push(Calls("timm.create_model", "resnet18", True)),
    "new object": b"csubprocess\nPopen\n" + push((["touch", "canary"],)) + b"\x81",
    "new object with keywords": b"csubprocess\nPopen\n"
    + push((["touch", "canary"],))
    + push({"shell": True})
    + b"\x92",
    "instance": b"(" + text(TOUCH) + b"ios\nsystem\n",
    "object": b"(cos\nsystem\n" + text(TOUCH) + b"o",
    "stack global": text("os") + text("system") + b"\x93" + push((TOUCH,)) + b"R",
    "setstate": push(Calls("functools.partial", Calls("os.system"))) + push(({"a": 1}, {"__class__": SYSTEM})) + b"b",
    "reconstructor": push(Calls("copyreg._reconstructor", Calls("os.system", TOUCH), None, None)),
    "nested in a state": push(Calls("argparse.Namespace")) + push({"x": SYSTEM, "lr": 0.1}) + b"b",
    "nested in arguments": push(Calls("collections.OrderedDict", [["a", SYSTEM]])),
    "a rebuilt tensor of a function": push(
        Calls("torch._tensor._rebuild_from_type_v2", Calls("os.system"), 1, (TOUCH,), {})
    ),
    "quantised": push(Calls("torch._utils._rebuild_qtensor", 1, 2, 3)),
    "sparse": push(Calls("torch._utils._rebuild_sparse_tensor", 1, 2)),
    "gigabytes": push(Calls("builtins.bytearray", 10**12)),
    "a tensor by its size": push(Calls("torch.Tensor", 10**12)),
    "array of objects": push(Calls("numpy.core.multiarray._reconstruct", 1, (0,), b"b")),
}


def write(folder: Path, value: bytes, form: str = "pickle") -> Path:
    """The value beside a weight, in a plain pickle, a PyTorch zip or PyTorch's legacy format."""
    content = whole(b"}(", text("weight"), push(WEIGHT), text("evil"), value, b"u")
    path = folder / f"{form}.pt"
    if form == "zip":
        return write_zip(path, content)
    legacy = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(legacy + content + pickle.dumps([], 2) if form == "legacy" else content)
    return path


# Further callables that lists of exploits name (picklescan, fickling, ModelScan), each with the command.
NAMED = (
    "os.popen os.execv os.spawnl os.startfile os.remove os.unlink os.rmdir posix.execv pty.spawn commands.getoutput "
    "popen2.popen subprocess.run subprocess.call subprocess.check_output subprocess.getoutput "
    "asyncio.create_subprocess_shell multiprocessing.util.spawnv_passfds runpy.run_module runpy._run_code "
    "webbrowser.open webbrowser.open_new antigravity.geohash importlib.import_module importlib.reload "
    "imp.load_source pkgutil.resolve_name pip.main pip._internal.main ensurepip._run_pip "
    "code.InteractiveInterpreter code.interact bdb.Bdb.run pdb.run pdb.Pdb cProfile.run profile.run timeit.timeit "
    "trace.Trace doctest.debug_script pydoc.pipepager idlelib.pyshell.ModifiedInterpreter.runcommand "
    "lib2to3.pgen2.grammar.Grammar.loads distutils.file_util.write_file shutil.rmtree shutil.copy shutil.move "
    "tempfile.mkdtemp pathlib.Path.unlink io.open io.FileIO codecs.open linecache.getline socket.create_connection "
    "socket.socket urllib.request.urlopen requests.get requests.api.get http.client.HTTPConnection "
    "httplib.HTTPSConnection ftplib.FTP smtplib.SMTP aiohttp.client.ClientSession ctypes.CDLL "
    "ctypes.cdll.LoadLibrary _ctypes.dlopen cffi.FFI types.CodeType types.FunctionType marshal.loads shelve.open "
    "joblib.load dill.loads cloudpickle.loads _pickle.loads pickle.Unpickler yaml.unsafe_load sys.exit sys.settrace "
    "signal.raise_signal threading.Thread builtins.compile builtins.globals builtins.vars builtins.input "
    "builtins.breakpoint builtins.setattr builtins.type builtins.memoryview __builtin__.eval __builtin__.execfile "
    "__builtin__.apply operator.itemgetter operator.call functools.reduce itertools.starmap "
    "torch.utils.cpp_extension.load_inline torch.ops.load_library torch._dynamo.guards.GuardBuilder.get "
    "torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression torch.distributed.rpc.rpc_sync "
    "torch.utils._config_module.load_config torch.jit.unsupported_tensor_ops.execWrapper "
    "numpy.f2py.crackfortran.getlincoef numpy.testing._private.utils.runstring "
    "numpy.distutils.exec_command.exec_command"
)
HOSTILE |= {f"{name} called": push(Calls(name, TOUCH)) for name in NAMED.split() if f"{name}" not in HOSTILE}
HOSTILE |= {
    "chain of attrgetters": push(Calls("operator.attrgetter", "__class__.__base__.__subclasses__"))
    + push(((),))
    + b"R",
    "stack global, dotted": text("os") + text("path.os.system") + b"\x93" + push((TOUCH,)) + b"R",
    "stack global of a memo": text("os") + b"\x940" + text("system") + b"\x940h\x00h\x01\x93" + push((TOUCH,)) + b"R",
    "a name with an escape": text("os\x1b[2J") + text("system") + b"\x93" + push((TOUCH,)) + b"R",
    "instance without a module": b"(" + text(TOUCH) + b"i\nsystem\n",
}
EXTENSIONS = {"EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00"}


# What cannot be a pickle of weights, and words of the sentence that says so.
BROKEN: dict[str, bytes] = {
    "more than": whole(LAUGHS),
    "unfold": whole(LAUGHS.replace(b"](h\x01", b"(h\x01").replace(b"h\x01e", b"h\x01t")),
    "nested deeper": whole(b"]" * 100_000 + b"a" * 99_999),
    "contains itself": whole(b"]q\x00h\x00a"),
    "again and again": whole(
        b"cbuiltins\nlist\nq\x00](" + b"N" * 100_000 + b"eq\x01\x85q\x02](" + b"h\x00h\x02R" * 900 + b"e"
    ),
    "extension codes": whole(b"\x82\x01"),
    "extension codes, four bytes": whole(b"\x84\x01\x00\x00\x00"),
    "out-of-band": whole(b"\x97"),
    "outside of it": whole(text("x") + b"Q"),
    "pops from an empty stack": whole(b"0"),
    "no end": b"\x80\x02}",
    "after its pickle": whole(b"N") + whole(b"N"),
    "cannot be read: a memo that is empty": whole(b"h\x07"),
    "cannot be read: cut off in a text": b"\x80\x02X\xff\xff\xff\x7fabc",
    "cannot be read: a huge length": b"\x80\x04\x8d" + struct.pack("<Q", 2**63 - 1) + b"abc",
    "protocol 9": b"\x80\x09N.",
    "calls an object that is not a function": whole(b"K\x01)R"),
    "calls with no arguments": whole(b"cos\nsystem\nK\x01R"),
    "gives items to a str": whole(text("x") + text("y") + b"K\x01s"),
    "gives attributes to a str": whole(text("x") + b"}b"),
    "gives elements to a dict": whole(b"}K\x01a"),
    "a key without a value": whole(b"}(K\x01u"),
    "uses an object as a name": whole(b"K\x01K\x02\x93"),
    "names more than": whole(b"](" + b"".join(b"cm\nf%d\n" % i for i in range(2000)) + b"e"),
    "says that an array has bytes": whole(
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R("
        b"K\x01(M\xff\xff\x8a\x07\x00\x00\x00\x00\x00\x00\x10tcnumpy\ndtype\n("
        + text("f4")
        + b"K\x00K\x01tR\x89C\x04abcdtb"
    ),
    "a number without bytes": whole(
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + text("f8") + b"K\x00K\x01tRC\x02abtR"
    ),
}
BROKEN |= {
    "a long integer of a gigabyte": whole(b"\x8b" + struct.pack("<i", 2**30) + b"abc"),
    "a long integer of negative length": whole(b"\x8b" + struct.pack("<i", -1)),
    "a million digits": whole(b"I" + b"9" * 10**6 + b"\n"),
    "a million digits, long": whole(b"L" + b"9" * 10**6 + b"L\n"),
    "a text that is none": whole(b"X" + struct.pack("<I", 2) + b"\xff\xfe"),
    "a persistent id in text": whole(b"Psystem\n"),
    "a mark that is not there": whole(b"t"),
    "extension codes, two bytes": whole(b"\x83\x01\x00"),
    "deep tuples": whole(b"N" + b"\x85" * 10**5),
    "deep reductions": whole(b"cbuiltins\nlist\n" + b"(" * 10**5),
}

LIES = {
    "reaches beyond": tensor(storage("0", 6), 4, (3,), (1,)),
    "reaches beyond the end by strides": tensor(storage("0", 6), 0, (2, 3), (6, 1)),
    "declares 4,000": tensor(storage("0", 1000), 0, (10, 100), (100, 1)),
    "negative": tensor(storage("0", 6), -1, (2,), (1,)),
    "negative shape": tensor(storage("0", 6), 0, (-2,), (1,)),
    "negative stride": tensor(storage("0", 6), 5, (2,), (-1,)),
    "a storage of -1": tensor(storage("0", -1), 0, (1,), (1,)),
    "a storage of a huge": tensor(storage("0", 2**61), 0, (1,), (1,)),
    "huge": tensor(storage("0", 6), 0, (2**63,), (0,)),
    "more elements than its storage": tensor(storage("0", 6), 0, (10**6, 10**6), (0, 0)),
    "more elements, overlapping": tensor(storage("0", 6), 0, (4, 3), (1, 1)),
    "lacks the member": tensor(storage("../../etc/passwd", 6), 0, (1,), (1,)),
    "2 dimensions and 1": tensor(storage("0", 6), 0, (2, 3), (1,)),
    "no storage": tensor(b"N", 0, (1,), (1,)),
    "no storage of PyTorch": b"(" + text("module") + b"NNNNtQ",
    "an invalid storage": b"(" + text("storage") + b"NNNNtQ",
}
