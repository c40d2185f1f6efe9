//! Says when its first instruction ran, and ends: nanoseconds of the clock that all processes of a host
//! share, and nothing else. No library, no start-up code, nothing to relocate: a program that does
//! nothing but start spends half a millisecond in those, which is no sandbox's. `cargo xtask bench`
//! compiles it.

#![no_std]
#![no_main]

use core::{arch::global_asm, panic::PanicInfo};

// clock_gettime(CLOCK_REALTIME), seconds and nanoseconds as one decimal number, write, exit_group.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "sub rsp, 64",
    "mov eax, 228",
    "xor edi, edi",
    "mov rsi, rsp",
    "syscall",
    "mov rax, [rsp]",
    "imul rax, rax, 1000000000",
    "add rax, [rsp + 8]",
    "lea rsi, [rsp + 63]",
    "mov byte ptr [rsi], 10",
    "mov ecx, 10",
    "2:",
    "xor edx, edx",
    "div rcx",
    "add dl, 48",
    "dec rsi",
    "mov [rsi], dl",
    "test rax, rax",
    "jnz 2b",
    "lea rdx, [rsp + 64]",
    "sub rdx, rsi",
    "mov eax, 1",
    "mov edi, 1",
    "syscall",
    "mov eax, 231",
    "xor edi, edi",
    "syscall",
    "ud2",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "sub sp, sp, #64",
    "mov x0, #0",
    "mov x1, sp",
    "mov x8, #113",
    "svc #0",
    "ldp x9, x10, [sp]",
    "movz x11, #0xca00",
    "movk x11, #0x3b9a, lsl #16",
    "madd x9, x9, x11, x10",
    "add x1, sp, #63",
    "mov w12, #10",
    "strb w12, [x1]",
    "mov x13, #10",
    "2:",
    "udiv x14, x9, x13",
    "msub x15, x14, x13, x9",
    "add x15, x15, #48",
    "strb w15, [x1, #-1]!",
    "mov x9, x14",
    "cbnz x9, 2b",
    "add x2, sp, #64",
    "sub x2, x2, x1",
    "mov x0, #1",
    "mov x8, #64",
    "svc #0",
    "mov x0, #0",
    "mov x8, #94",
    "svc #0",
    "brk #1",
);

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
