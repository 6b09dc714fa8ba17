//! The forms of attack on pickles that are known, each as a file of no telling name: all are told.
//!
//! Most are from what picklescan and fickling look for, and from what got past them. Each is valid: Python runs it, or has run the call when it stops.

use std::io::Cursor;

use lamina::model::fit::Finding;
use lamina::model::fit_scan::{self, Look};
use lamina::model::framework::ReadSeek;
use lamina::oci::layer::Content;
use lamina::oci::path::TreePath;

fn said(bytes: &[u8]) -> Vec<String> {
    let (path, content) = (TreePath::new("weights.bin").unwrap(), Content::Inline(bytes.into()));
    let look = Look { path: &path, size_bytes: bytes.len() as u64, content: &content, is_text: true };
    let open = |_: &Content| -> std::io::Result<Box<dyn ReadSeek>> { Ok(Box::new(Cursor::new(bytes.to_vec()))) };
    fit_scan::look(&look, None, &open).findings.iter().map(Finding::problem).collect()
}

/// What it is, the file, and what is said of it.
const WAYS: &[(&str, &[u8], &str)] = &[
    ("a module that another has", b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x07logging\x8c\x02os\x93\x8c\x06system\x86R\x8c\x04true\x85R.", "imports `logging.os`"),
    ("the class of an object", b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x0bcollections\x8c\x0bOrderedDict\x93)R\x8c\x09__class__\x86R.", "fetches `__class__`"),
    ("the globals of a function", b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x0bcollections\x8c\nnamedtuple\x93\x8c\x0b__globals__\x86R.", "imports `collections.namedtuple.__globals__`"),
    ("a path of attributes", b"\x80\x04\x8c\x08operator\x8c\nattrgetter\x93(\x8c!__class__.__base__.__subclasses__tR.", "fetches `__class__.__base__.__subclasses__`"),
    ("the C name of the module", b"\x80\x04\x8c\x09_operator\x8c\nattrgetter\x93(\x8c\x06systemtR.", "fetches `system`"),
    ("a method by its name", b"\x80\x04\x8c\x08operator\x8c\x0cmethodcaller\x93(\x8c\x06system\x8c\x04truetR.", "fetches `system`"),
    ("an item of a dict of functions", b"\x80\x04\x8c\x08operator\x8c\nitemgetter\x93(\x8c\x04evaltR.", "fetches `eval`"),
    ("cloudpickle's import", b"\x80\x04\x8c\x17cloudpickle.cloudpickle\x8c\x09subimport\x93(\x8c\x02ostR.", "imports `os`"),
    ("dill's import", b"\x80\x04\x8c\ndill._dill\x8c\x0e_import_module\x93(\x8c\x02ostR.", "imports `os`"),
    ("getattr handed on", b"\x80\x04\x8c\x09functools\x8c\x06reduce\x93\x8c\x08builtins\x8c\x07getattr\x93]\x8c\x0e__subclasses__a\x8c\x01x\x87R.", "by a name that cannot be followed"),
    ("a function that calls another", b"\x80\x04\x8c\x08builtins\x8c\x03map\x93\x8c\x02os\x8c\x06system\x93]\x8c\x04truea\x86R.", "imports `os.system`"),
    ("a partial", b"\x80\x04\x8c\x09functools\x8c\x07partial\x93\x8c\x02os\x8c\x06system\x93\x8c\x04true\x86R)R.", "imports `os.system`"),
    ("INST", b"(S'true'\nios\nsystem\n.", "imports `os.system`"),
    ("OBJ", b"(cos\nsystem\nS'true'\no.", "imports `os.system`"),
    ("NEWOBJ", b"\x80\x02csubprocess\nPopen\nU\x04true\x85\x81.", "imports `subprocess.Popen`"),
    ("NEWOBJ_EX", b"\x80\x04\x8c\nsubprocess\x8c\x05Popen\x93\x8c\x04true\x85}\x92.", "imports `subprocess.Popen`"),
    ("a state that replaces a method", b"\x80\x02cm\nC\n)\x81}U\x0c__setstate__cos\nsystem\nsbU\x04trueb.", "imports `os.system`"),
    ("names out of the memo", b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94NN0000h\x00h\x01\x93\x8c\x04true\x85R.", "imports `os.system`"),
    ("names out of the memo by number", b"\x80\x02U\x02osq\x07U\x06systemr\x09\x00\x00\x00NNh\x07j\x09\x00\x00\x00\x93U\x04true\x85R.", "imports `os.system`"),
    ("escapes in a string", b"S'\\x6fs'\nS'system'\n\x93S'true'\n\x85R.", "names cannot be followed"),
    ("escapes in a Unicode string", b"V\\u006fs\nVsystem\n\x93Vtrue\n\x85R.", "names cannot be followed"),
    ("a name that a call made", b"\x80\x04\x8c\x00\x8c\x08builtins\x8c\x03str\x93)R\x8c\x06system\x93\x8c\x04true\x85R.", "names cannot be followed"),
    ("the registry of extensions", b"\x80\x02\x82\x01U\x04true\x85R.", "names cannot be followed"),
    ("no STOP", b"cos\nsystem\n(S'true'\ntR", "imports `os.system`"),
    ("rubbish behind the call", b"cos\nsystem\n(S'true'\ntR\xff\xff\xff", "imports `os.system`"),
    ("PROTO in the middle", b"N0\x80\x02cos\nsystem\n(S'true'\ntR.", "imports `os.system`"),
    ("PROTO 0", b"\x80\x00cos\nsystem\n(S'true'\ntR.", "imports `os.system`"),
    ("no FRAME", b"\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x04truetR.", "imports `os.system`"),
    ("behind two others", b"\x80\x04K\x01.I2\n.cos\nsystem\n(S'true'\ntR.", "imports `os.system`"),
    ("what it gave thrown away", b"cos\nsystem\n(S'true'\ntR0N.", "imports `os.system`"),
    ("two streams of zlib", b"x\x9ck`\xe9a\xca/\xeea+\x06\x00\x0e\xa3\x02\xfax\x9c\xab,.I\xcd\x9d\xac\xd1\xc3RRT\x9aZ\x12\xa4\x07\x007\xc2\x062", "(unpacked) imports `os.system`"),
    ("two frames of lz4", b"\x04\"M\x18h@\x09\x00\x00\x00\x00\x00\x00\x00m\x09\x00\x00\x80\x80\x04\x8c\x02os\x8c\x06s\x00\x00\x00\x00\x04\"M\x18h@\x10\x00\x00\x00\x00\x00\x00\x00e\x10\x00\x00\x80ystem\x93(\x8c\x04truetR.\x00\x00\x00\x00", "(unpacked) imports `os.system`"),
    ("xz with a filter", b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x01\x04\x00!\x01\x16\x00\x0d\x865\x1f\x01\x00\x18\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x04truetR.\x00\x00\x00\x00\xff\xea'\xe9\x82\xb2\x06{\x00\x011\x19Y\x1a\xb0\x82\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ", "(unpacked) imports `os.system`"),
    ("xz with a dictionary of 256 MiB", b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01 \x00\x00\x00\x09\x88\xa5v\x01\x00\x18\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x04truetR.\x00\x00\x00\x00\xff\xea'\xe9\x82\xb2\x06{\x00\x011\x19Y\x1a\xb0\x82\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ", "takes more memory"),
    ("a tensor that is a pickle", b"\x80\x04\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93C\x19\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x04truetR.\x85R.", "in a pickle inside imports `os.system`"),
    ("torch's older form", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x04truetR.", "imports `os.system`"),
];

/// Functions of the lists that picklescan 1.0 and fickling 0.1 keep, but for those that real frameworks pickle.
const FUNCTIONS: &str = "
os:system posix:system nt:system subprocess:Popen subprocess:call builtins:eval builtins:exec builtins:compile builtins:open builtins:__import__
builtins:breakpoint builtins:apply __builtin__:eval __builtin__:exec __builtin__:execfile __builtin__:apply aiohttp:ClientSession asyncio:run
asyncio.unix_events:_UnixSubprocessTransport._start bdb:Bdb commands:getoutput ctypes:CDLL ctypes.util:find_library httplib:HTTPConnection
http.client:HTTPSConnection logging:FileHandler _io:FileIO io:FileIO numpy.f2py.crackfortran:getlincoef numpy.f2py.crackfortran:_eval_length
numpy.testing._private.utils:runstring requests.api:get runpy:_run_code shutil:rmtree socket:create_connection ssl:get_server_certificate sys:exit
code:InteractiveInterpreter.runcode cProfile:run cProfile:runctx distutils.file_util:write_file doctest:debug_script ensurepip:_run_pip
idlelib.autocomplete:AutoComplete.get_entity idlelib.calltip:get_entity idlelib.debugobj:ObjectTreeItem.SetText
idlelib.pyshell:ModifiedInterpreter.runcode idlelib.run:Executive.runcode imaplib:IMAP4_stream lib2to3.pgen2.grammar:Grammar.loads
lib2to3.pgen2.pgen:ParserGenerator.make_label pdb:run pickle:loads _pickle:loads cPickle:loads pip:main pkgutil:resolve_name pty:spawn profile:run
profile:Profile.run pydoc:locate pydoc:pipepager test.support.script_helper:assert_python_ok timeit:timeit timeit:main
torch._dynamo.guards:GuardBuilder.get torch._inductor.codecache:compile_file torch.fx.experimental.symbolic_shapes:ShapeEnv.evaluate_guards_expression
torch.jit.unsupported_tensor_ops:execWrapper torch.serialization:load torch:load torch.hub:load torch.utils._config_module:ConfigModule.load_config
torch.utils.bottleneck.__main__:run_cprofile torch.utils.collect_env:run torch.utils.data.datapipes.utils.decoder:basichandlers trace:Trace.run
trace:Trace.runctx urllib.request:urlopen urllib2:urlopen uuid:_get_command_stdout venv:create webbrowser:open _osx_support:_read_output
_osx_support:_find_build_tool _aix_support:_read_cmd_output _pyrepl.pager:pipe_pager multiprocessing.util:spawnv_passfds _posixsubprocess:fork_exec
codeop:compile_command marshal:loads importlib:import_module _frozen_importlib_external:SourceFileLoader _imp:create_dynamic zipimport:zipimporter
gc:get_objects site:main unittest.mock:_importer smtplib:SMTP ftplib:FTP poplib:POP3 telnetlib:Telnet nntplib:NNTP _ctypes:dlopen dill:loads
cloudpickle:loads joblib:load pandas:read_pickle numpy:load tempfile:mkstemp pexpect:spawn socketserver:TCPServer xmlrpc.client:ServerProxy
signal:signal atexit:register sqlite3:connect fileinput:input linecache:getlines py_compile:compile compileall:compile_file tarfile:open
zipfile:ZipFile shelve:open types:CodeType types:FunctionType cloudpickle.cloudpickle:_builtin_type cloudpickle.cloudpickle:_make_function
numpy.distutils.exec_command:exec_command pandas.core.computation.eval:eval pandas:DataFrame.eval numpy:testing.os.system logging:os torch:os.system
threading:Thread
";

#[test]
fn every_way_to_reach_a_function_is_told() {
    for (what, bytes, expected) in WAYS {
        let said = said(bytes);
        assert!(said.iter().any(|said| said.contains(expected)), "{what}: {said:?}");
    }
}

#[test]
fn every_function_of_the_known_lists_is_told_in_either_form() {
    let functions: Vec<(&str, &str)> = FUNCTIONS.split_whitespace().map(|words| words.split_once(':').unwrap()).collect();
    assert!(functions.len() > 100);
    for (module, name) in functions {
        let old = format!("c{module}\n{name}\n(S'true'\ntR.").into_bytes();
        let text = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
        let new = [b"\x80\x04".as_slice(), &text(module), &text(name), b"\x93", &text("true"), b"\x85R."].concat();
        for bytes in [old, new] {
            assert_eq!(said(&bytes).len(), 1, "{module}.{name}");
        }
    }
}
