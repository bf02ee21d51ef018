//! What must hold for an object that the compiler of an ordinary program made and that runs in a kernel.

use crate::command::Cmd;
use anyhow::{Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

/// Symbols that the object may take from the kernel and the shim.
const ALLOWED_SYMBOLS: &[&str] = &[
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "bcmp",
    "__x86_return_thunk",
    "cvsw_panicked",
    "cvsw_keys_want",
    "cvsw_keys_retire",
    "cvsw_keys_crypt",
    "cvsw_keys_prepare",
];
/// Functions that refer to `core::panicking`, and why that is never reached.
const PANICS: &[(&str, &str)] = &[
    (
        "aes::backends::soft::fixslice::utils::memshift32",
        "the key schedule copies inside an array of fixed size, by offsets that its own loop counts",
    ),
    (
        "<cvsw_core::control::v3::keys::ControlKeys>::unwrap",
        "aes-kw takes the wrapped key apart by blocks of 8 bytes, of which it has checked before that there are enough",
    ),
];
/// Largest stack frame of one function in bytes.
const FRAME_LIMIT: u32 = 2048;
/// Deepest call chain in bytes: an eighth of a kernel stack, of which others may have used much already.
const CHAIN_LIMIT: u32 = 2048;
/// What packets go through.
const PACKET_PATH: &str = "cvsw_engine_burst";
/// What a call with packets never reaches, since the shim sorts control frames of the network out before it
/// (`cvsw_frame_is_control`, the engine's own test): they go to `cvsw_engine_control`.
const CONTROL_PATH: &str = ">::control::<";

/// Size and stack use of the object.
pub struct Report {
    functions: usize,
    frames: Vec<(u32, String)>,
    chains: Vec<(u32, String)>,
    /// Listed functions that refer to `core::panicking`.
    panics: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "object: {} functions; no SIMD, red zone, bare return, indirect branch or GOT",
            self.functions
        )?;
        match &self.panics[..] {
            [] => writeln!(f, "no reference to core::panicking")?,
            some => {
                writeln!(f, "core::panicking: referred to (never called, see the list) by {}", some.join(", "))?
            }
        }
        let list = |f: &mut fmt::Formatter<'_>, what: &str, sizes: &[(u32, String)]| {
            writeln!(f, "{what} (bytes):")?;
            sizes.iter().take(8).try_for_each(|(size, name)| writeln!(f, "  {size:>5}  {name}"))
        };
        list(f, "largest stack frames", &self.frames)?;
        list(f, "deepest call chains, with the portable ciphers", &self.chains)
    }
}

/// Checks the object; the error lists everything that is wrong.
pub fn check(object: &Path) -> Result<Report> {
    let code = Cmd::new("objdump").words("-dr -C --no-show-raw-insn").arg(object).read()?;
    let undefined = Cmd::new("nm").words("--undefined-only --format=just-symbols").arg(object).read()?;
    let disassembly = Disassembly::parse(&code);
    let mut faults = disassembly.faults.clone();
    faults.extend(disassembly.panics().1);
    faults.extend(
        undefined
            .lines()
            .filter(|symbol| !ALLOWED_SYMBOLS.contains(symbol))
            .map(|symbol| format!("unexpected undefined symbol {symbol}")),
    );
    let report = disassembly.report();
    faults.extend(disassembly.too_deep(&report));
    if !disassembly.functions.contains_key(PACKET_PATH) {
        faults.push(format!("there is no function {PACKET_PATH}"));
    }
    if disassembly.functions.is_empty() {
        faults.push("no code at all".to_owned());
    }
    if !faults.is_empty() {
        faults.truncate(20);
        bail!("{} is not fit for the kernel:\n  {}", object.display(), faults.join("\n  "));
    }
    Ok(report)
}

/// Functions that do not count in the call chain of an entry point.
fn without(entry: &str) -> &'static [&'static str] {
    if entry == PACKET_PATH { &[CONTROL_PATH] } else { &[] }
}

#[derive(Default)]
struct Function {
    /// Bytes of stack, with the return address.
    frame: u32,
    calls: BTreeSet<String>,
}

#[derive(Default)]
struct Disassembly {
    functions: BTreeMap<String, Function>,
    /// `section@address` to name: calls into another section are known by place.
    places: BTreeMap<String, String>,
    faults: Vec<String>,
}

impl Disassembly {
    fn parse(code: &str) -> Self {
        let mut this = Self::default();
        let (mut name, mut section) = (String::new(), "");
        for line in code.lines() {
            if let Some(title) = line.strip_prefix("Disassembly of section ") {
                section = title.trim_end_matches(':');
            } else if let Some(label) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
                name = label.1.to_owned();
                this.functions.insert(name.clone(), Function { frame: 8, ..Function::default() });
                if let Ok(address) = i64::from_str_radix(label.0, 16) {
                    this.places.insert(format!("{section}@{address}"), name.clone());
                }
            } else if let Some(function) = this.functions.get_mut(&name)
                && let Some(fault) = instruction(line, &name, function)
            {
                this.faults.push(format!("{fault} in {name}: {}", line.trim()));
            }
        }
        this
    }

    fn report(&self) -> Report {
        let mut frames: Vec<_> =
            self.functions.iter().map(|(name, function)| (function.frame, name.clone())).collect();
        let entries = self.functions.keys().filter(|name| name.starts_with("cvsw_") && !name.contains("::"));
        let mut chains: Vec<_> = entries.map(|name| (self.depth(name, without(name)), name.clone())).collect();
        for sizes in [&mut frames, &mut chains] {
            sizes.sort_by(|a, b| b.cmp(a));
        }
        let panics = self.panics().0;
        Report { functions: self.functions.len(), frames, chains, panics }
    }

    /// What uses too much stack.
    fn too_deep(&self, report: &Report) -> Vec<String> {
        let frames = report.frames.iter().filter(|(size, _)| *size > FRAME_LIMIT);
        let frames = frames
            .map(|(size, name)| format!("the stack frame of {name} has {size} bytes, more than {FRAME_LIMIT}"));
        let chains = report.chains.iter().filter(|(size, _)| *size > CHAIN_LIMIT).map(|(size, name)| {
            let calls = self.deepest(name, without(name), &mut BTreeSet::new());
            let calls: Vec<_> = calls.iter().map(|(frame, name)| format!("{frame:>8}  {name}")).collect();
            let calls = calls.join("\n");
            format!("the call chain from {name} has {size} bytes, more than {CHAIN_LIMIT}:\n{calls}")
        });
        frames.chain(chains).collect()
    }

    /// Who refers to `core::panicking`: those on the list, and what is wrong with the others.
    fn panics(&self) -> (Vec<String>, Vec<String>) {
        // `core::result::unwrap_failed` and the like only lead there.
        let panicking =
            |name: &str| name.contains("core::panicking") || (name.starts_with("core::") && name.contains("_fail"));
        let name_of = |call: &str| self.places.get(call).map_or(call.to_owned(), Clone::clone);
        let callers = self.functions.iter().filter(|(name, function)| {
            !panicking(name) && function.calls.iter().any(|call| panicking(&name_of(call)))
        });
        let (listed, others): (Vec<_>, Vec<_>) = callers
            .map(|(name, _)| name.clone())
            .partition(|name| PANICS.iter().any(|(known, _)| name.contains(known)));
        let mut faults: Vec<_> = others.iter().map(|name| format!("{name} can panic")).collect();
        if listed.is_empty() && faults.is_empty() && self.functions.keys().any(|name| panicking(name)) {
            faults.push("core::panicking is linked in, and it is not clear for whom".to_owned());
        }
        (listed, faults)
    }

    /// Stack that a call may use, at most; recursion counts once, and functions named like `without` do not.
    fn depth(&self, name: &str, without: &[&str]) -> u32 {
        self.deepest(name, without, &mut BTreeSet::new()).iter().map(|(frame, _)| frame).sum()
    }

    /// The call chain of that depth: stack frames and names, the innermost function first.
    fn deepest(&self, name: &str, without: &[&str], above: &mut BTreeSet<String>) -> Vec<(u32, String)> {
        let name = self.places.get(name).map_or(name, String::as_str);
        let Some(function) = self.functions.get(name) else { return Vec::new() };
        if without.iter().any(|part| name.contains(part)) || !above.insert(name.to_owned()) {
            return Vec::new();
        }
        let below = function.calls.iter().map(|call| self.deepest(call, without, above));
        let mut chain =
            below.max_by_key(|chain| chain.iter().map(|(frame, _)| frame).sum::<u32>()).unwrap_or_default();
        above.remove(name);
        chain.push((function.frame, name.to_owned()));
        chain
    }
}

/// Adds what one line of code does to `function`; what is wrong with it, if anything.
fn instruction(line: &str, name: &str, function: &mut Function) -> Option<&'static str> {
    if let Some((_, relocation)) = line.split_once("R_X86_64_") {
        if let Some(target) = relocation.split_once(char::is_whitespace) {
            function.calls.insert(called(target.1));
            function.calls.extend(place(target.1));
        }
        return relocation.starts_with("GOT").then_some("a relocation by the global offset table");
    }
    let (_, text) = line.split_once('\t')?;
    let text = text.trim();
    let (operation, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match operation {
        "push" => function.frame += 8,
        "sub" => {
            let size = operands.trim().strip_prefix("$0x").and_then(|rest| rest.strip_suffix(",%rsp"));
            function.frame += size.and_then(|size| u32::from_str_radix(size, 16).ok()).unwrap_or(0);
            // Of a size that is not known here, or a negative one.
            if operands.ends_with(",%rsp") && size.is_none_or(|size| size.len() > 5) {
                return Some("a stack frame whose size is not known");
            }
        }
        "add" if operands.trim().starts_with("$0xff") && operands.ends_with(",%rsp") => {
            return Some("a stack frame whose size is not known");
        }
        "lea" | "and" | "mov" | "or" if operands.ends_with(",%rsp") => {
            return Some("a stack frame whose size is not known");
        }
        "call" | "jmp" => {
            if let Some((_, target)) = operands.split_once('<') {
                let target = called(target.strip_suffix('>').unwrap_or(target));
                if target != name {
                    function.calls.insert(target);
                }
            }
            if operands.trim_start().starts_with('*') {
                return Some("an indirect branch");
            }
        }
        "ret" | "retq" | "repz" | "lret" => return Some("a bare return"),
        _ => {}
    }
    if ["%xmm", "%ymm", "%zmm", "%mm", "%st"].iter().any(|register| operands.contains(register)) {
        return Some("a floating-point or vector register");
    }
    // With an index register it is an array in the stack frame; `lea` only computes where one would be.
    if operation != "lea"
        && operands.contains("(%rsp)")
        && operands.split(',').any(|one| one.trim().starts_with("-0x"))
    {
        return Some("an access below the stack pointer");
    }
    None
}

/// `name+0x10` and `name-0x4` as `name`.
fn called(target: &str) -> String {
    let target = target.trim();
    let end = target.rfind("+0x").or_else(|| target.rfind("-0x")).unwrap_or(target.len());
    target[..end].to_owned()
}

/// `.text.unlikely.+0xc`, the target of a call relative to the end of the instruction, as `section@address`.
fn place(target: &str) -> Option<String> {
    let section = called(target);
    let offset = target.trim().strip_prefix(&section)?;
    let (sign, digits) =
        if let Some(digits) = offset.strip_prefix("-0x") { (-1, digits) } else { (1, offset.strip_prefix("+0x")?) };
    let address = sign * i64::from_str_radix(digits, 16).ok()? + 4;
    section.starts_with('.').then(|| format!("{section}@{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(code: &str) -> Vec<String> {
        Disassembly::parse(&format!("0000000000000000 <f>:\n{code}")).faults
    }

    #[test]
    fn planted_faults_are_found() {
        for (line, fault) in [
            ("   0:\tmovaps %xmm0,(%rdi)", "vector register"),
            ("   0:\tfld    %st(0)", "vector register"),
            ("   0:\tret", "bare return"),
            ("   0:\tjmp    *%rax", "indirect branch"),
            ("   0:\tcall   *0x8(%rax)", "indirect branch"),
            ("   0:\tmov    %rax,-0x8(%rsp)", "below the stack pointer"),
            ("   0:\tsub    %rax,%rsp", "size is not known"),
            ("   0:\tsub    $0xffffffffffffff80,%rsp", "size is not known"),
            ("   0:\tadd    $0xffffffffffffff80,%rsp", "size is not known"),
            ("   0:\tand    $0xffffffffffffffe0,%rsp", "size is not known"),
            ("\t\t\t3: R_X86_64_GOTPCRELX\tmemcpy-0x4", "global offset table"),
        ] {
            let found = faults(line);
            assert!(matches!(&found[..], [one] if one.contains(fault)), "{line}: {found:?}");
        }
        let alone = Disassembly::parse("0000000000000000 <core::panicking::panic_fmt>:\n");
        assert_eq!(alone.panics().1.len(), 1);
        let called = Disassembly::parse(
            "0 <ours>:\n   0:\tcall   20 <core::panicking::panic_fmt>\n20 <core::panicking::panic_fmt>:\n",
        );
        assert_eq!(called.panics().1, ["ours can panic"]);
    }

    #[test]
    fn ordinary_code_is_none() {
        assert!(
            faults("   0:\tmov    0x8(%rsp),%rax\n   4:\tjmp    10 <f+0x10>\n   9:\tsub    $0x18,%rsp").is_empty()
        );
    }

    #[test]
    fn listed_panics_are_named() {
        let (name, _) = PANICS[0];
        let code = format!(
            "0 <{name}>:\n   0:\tcall   20 <core::panicking::panic_fmt>\n20 <core::panicking::panic_fmt>:\n"
        );
        assert_eq!(Disassembly::parse(&code).panics(), (vec![name.to_owned()], vec![]));
    }

    #[test]
    fn control_frames_are_not_of_the_packet_path() {
        let code = "0 <cvsw_engine_burst>:\n   0:\tcall   20 <<x::Cvsw>::control::<y>>\n\
                    20 <<x::Cvsw>::control::<y>>:\n  20:\tsub    $0xc00,%rsp\n\
                    40 <cvsw_engine_control>:\n  40:\tcall   20 <<x::Cvsw>::control::<y>>\n";
        let report = Disassembly::parse(code).report();
        let control = (8 + 8 + 0xc00, "cvsw_engine_control".to_owned());
        assert_eq!(report.chains, [control, (8, "cvsw_engine_burst".to_owned())]);
    }

    #[test]
    fn stack_frames_add_up_along_calls() {
        let code = "0 <cvsw_a>:\n   0:\tpush   %rbx\n   1:\tsub    $0x100,%rsp\n   8:\tcall   20 <b>\n\
                    20 <b>:\n  20:\tsub    $0x80,%rsp\n  28:\tcall   20 <b>\n";
        let report = Disassembly::parse(code).report();
        assert_eq!(report.frames[0], (8 + 8 + 0x100, "cvsw_a".to_owned()));
        assert_eq!(report.chains, [(8 + 8 + 0x100 + 8 + 0x80, "cvsw_a".to_owned())]);
    }

    #[test]
    fn too_much_stack_is_refused() {
        let code = |size: u32| {
            format!(
                "0 <cvsw_a>:\n   0:\tsub    $0x400,%rsp\n   8:\tcall   20 <b>\n20 <b>:\n  20:\tsub    ${size:#x},%rsp\n"
            )
        };
        let faults = |size| {
            let disassembly = Disassembly::parse(&code(size));
            disassembly.too_deep(&disassembly.report())
        };
        assert_eq!(faults(1024 - 16), [""; 0]);
        let [fault] = &faults(1024 - 15)[..] else { panic!("one chain is too deep") };
        assert!(fault.contains("cvsw_a has 2049 bytes") && fault.contains("1017  b\n"), "{fault}");
        assert_eq!(faults(2048).len(), 2, "the frame of b, and the chain");
    }

    #[test]
    fn calls_of_generic_functions_count() {
        let code = "0 <cvsw_a>:\n   0:\tcall   20 <<x::Y>::b::<&mut z::Memory>>\n\
                    20 <<x::Y>::b::<&mut z::Memory>>:\n  20:\tsub    $0x80,%rsp\n";
        assert_eq!(Disassembly::parse(code).report().chains, [(8 + 8 + 0x80, "cvsw_a".to_owned())]);
    }

    #[test]
    fn calls_into_another_section_count() {
        let code = "Disassembly of section .text:\n\n0000000000000000 <cvsw_a>:\n   0:\tcall   5 <cvsw_a+0x5>\n\
                    \t\t\t1: R_X86_64_PLT32\t.text.unlikely.+0x1c\n\
                    Disassembly of section .text.unlikely.:\n\n0000000000000020 <cold>:\n  20:\tsub    $0x80,%rsp\n";
        assert_eq!(Disassembly::parse(code).report().chains, [(8 + 8 + 0x80, "cvsw_a".to_owned())]);
    }
}
