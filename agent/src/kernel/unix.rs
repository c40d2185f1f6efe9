//! The hooks on unix sockets, which not every kernel has (Linux 6.7) and aya does not know: their
//! programs are taken out of the object, given the number of a function of this kernel, and loaded by
//! `bpf(2)`. Attached and pinned they are like all others.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use aya::Ebpf;
use aya_obj::{Object, generated::bpf_insn};
use common::unix::{CAST_NAME, CAST_PLACEHOLDER};

use super::{
    attach::{Hook, hook},
    btf::Btf,
    error::Error,
    load::LoadedProgram,
    maps::map_fd,
    object::OBJECT,
    probe,
};
use crate::sys::bpf;

/// The hooks.
pub(in crate::kernel) const UNIX_HOOKS: &[Hook] =
    &[hook("connect_unix", 49), hook("sendmsg_unix", 50)];

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`
const CGROUP_SOCK_ADDR: u32 = 18;
/// `BPF_JMP | BPF_CALL`
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL`: the number is that of a function of the kernel.
const KERNEL_FUNCTION: u8 = 2;
/// What the programs take the kernel's own context for (`struct bpf_sock_addr_kern`).
const CONTEXT: &str = "bpf_sock_addr_kern";
const CONTEXT_FIELDS: [(&str, u32); 2] = [("uaddr", 8), ("uaddrlen", 32)];

/// The programs, or why this kernel can not have them.
pub(in crate::kernel) type Available = Result<Vec<LoadedProgram>, String>;

/// Loads the programs with the maps of an object that is loaded already. An error is a kernel that has
/// the hooks and refuses the programs.
pub(in crate::kernel) fn load(ebpf: &Ebpf) -> Result<Available, Error> {
    let function = match function_of_this_kernel() {
        Ok(function) => function,
        Err(lack) => return Ok(Err(lack)),
    };
    let object = relocated(ebpf)?;
    let license = object.license.to_bytes_with_nul().to_vec();
    let programs = UNIX_HOOKS.iter().map(|hook| {
        let instructions = instructions(&object, hook, function)?;
        let fd = bpf::load(CGROUP_SOCK_ADDR, hook.attach_type, &instructions, &license);
        Ok(LoadedProgram {
            hook,
            fd: fd.map_err(|refused| refused_program(hook, &refused.to_string()))?,
        })
    });
    Ok(Ok(programs.collect::<Result<Vec<_>, Error>>()?))
}

/// The number of the function that the programs call, where the kernel has the hooks, the function and
/// the context as the programs read it; else what is missing.
fn function_of_this_kernel() -> Result<u32, String> {
    for hook in UNIX_HOOKS {
        let passing = bpf::load(
            CGROUP_SOCK_ADDR,
            hook.attach_type,
            &bpf::PASS,
            c"GPL".to_bytes_with_nul(),
        );
        let _unloaded: OwnedFd = passing.map_err(|refused| {
            format!(
                "this kernel has no hook {} (Linux 6.7 has): {refused}",
                hook.name
            )
        })?;
    }
    let btf = Btf::of_kernel().map_err(|error| format!("the kernel shows no types: {error}"))?;
    for (field, offset) in CONTEXT_FIELDS {
        if btf.offset(CONTEXT, field) != Some(offset) {
            return Err(format!(
                "`{CONTEXT}.{field}` of this kernel is not at {offset}"
            ));
        }
    }
    btf.function(CAST_NAME)
        .ok_or_else(|| format!("this kernel has no `{CAST_NAME}` (Linux 6.2 has)"))
}

/// The object with the maps' descriptors in it.
fn relocated(ebpf: &Ebpf) -> Result<Object, Error> {
    let refused = |error: &dyn std::error::Error| Error::Object {
        message: error.to_string(),
        release: probe::release(),
    };
    let mut object = Object::parse(OBJECT).map_err(|error| refused(&error))?;
    let descriptors: HashMap<&str, RawFd> = ebpf
        .maps()
        .filter_map(|(name, map)| Some((name, map_fd(map)?.as_raw_fd())))
        .collect();
    let maps: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
    let known = maps.iter().filter_map(|(name, map)| {
        let descriptor = descriptors.get(name.as_str())?;
        Some((name.as_str(), *descriptor, map))
    });
    let sections: HashSet<usize> = object.functions.keys().map(|(index, _)| *index).collect();
    object
        .relocate_maps(known, &sections)
        .map_err(|error| refused(&error))?;
    object
        .relocate_calls(&sections)
        .map_err(|error| refused(&error))?;
    Ok(object)
}

/// The program of a hook, with the kernel function's number where its placeholder stood.
fn instructions(
    object: &Object,
    hook: &'static Hook,
    function: u32,
) -> Result<Vec<[u8; 8]>, Error> {
    let program = object.programs.get(hook.name);
    let code = program.and_then(|program| object.functions.get(&program.function_key()));
    let code = code.ok_or(Error::Missing { name: hook.name })?;
    let mut instructions: Vec<bpf_insn> = code.instructions.clone();
    for instruction in &mut instructions {
        let placeholder = usize::try_from(instruction.imm) == Ok(CAST_PLACEHOLDER);
        if instruction.code == CALL && instruction.src_reg() == 0 && placeholder {
            instruction.set_src_reg(KERNEL_FUNCTION);
            instruction.imm = function.cast_signed();
        }
    }
    Ok(instructions.into_iter().map(bytes).collect())
}

/// As the kernel reads it (RFC 9669, 3): code, registers, offset, number.
fn bytes(instruction: bpf_insn) -> [u8; 8] {
    let registers = instruction.dst_reg() | instruction.src_reg() << 4;
    let [o0, o1] = instruction.off.to_le_bytes();
    let [i0, i1, i2, i3] = instruction.imm.to_le_bytes();
    [instruction.code, registers, o0, o1, i0, i1, i2, i3]
}

fn refused_program(hook: &'static Hook, message: &str) -> Error {
    Error::Program {
        hook: hook.name,
        message: message.to_owned(),
        release: probe::release(),
    }
}
