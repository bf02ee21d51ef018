# Entry in 32-bit protected mode without paging, EBX = physical address of hvm_start_info (the PVH boot protocol of
# Xen, docs/misc/pvh.pandoc). Maps the first 4 GiB one to one and enters 64-bit mode.

    .section .note.pvh, "a", @note
    .balign 4
    .long 4                     # length of the name
    .long 4                     # length of the descriptor
    .long 18                    # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long _start

    .section .text.boot, "ax", @progbits
    .code32
    .global _start
_start:
    cli
    cld
    movl $_stack_top, %esp

    # Page directories: 2048 pages of 2 MiB. Present, writable, large.
    movl $boot_pd, %edi
    movl $0x83, %eax
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    jnc 1b

    # One page-directory-pointer table with four entries, one top table with one.
    movl $boot_pd + 0x03, %eax
    movl $boot_pdpt, %edi
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    loop 2b
    movl $boot_pdpt + 0x03, boot_pml4

    movl $boot_pml4, %eax
    movl %eax, %cr3
    # PAE; FXSAVE and SSE exceptions, without which no SSE instruction may run.
    movl %cr4, %eax
    orl $0x620, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx      # EFER: long mode enable
    rdmsr
    orl $0x100, %eax
    wrmsr
    # Paging, write protection, monitor coprocessor; no emulation.
    movl %cr0, %eax
    andl $0xfffffffb, %eax
    orl $0x80010002, %eax
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $0x08, $boot_long_mode

    .code64
boot_long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movl $_stack_top, %esp
    movl %ebx, %edi
    xorl %ebp, %ebp
    call unikernel_main
    ud2

    .section .rodata.boot, "a", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 64-bit code
    .quad 0x00cf93000000ffff    # data
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .quad boot_gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
    .global boot_pd
boot_pd:
    .skip 4 * 4096

# Interrupt entry. Devices and the timer share one vector: it ends the HLT in `sys::wait_for_interrupt` and comes back
# with interrupts off, so that nothing ever interrupts anything else.
    .section .text.interrupts, "ax", @progbits
    .global boot_interrupt
boot_interrupt:
    andl $0xfffffdff, 16(%rsp)
    iretq

    .global boot_spurious
boot_spurious:
    iretq

# Exceptions: 32 stubs of 16 bytes, each of which pushes its number.
    .balign 16
    .global boot_exceptions
boot_exceptions:
    .set number, 0
    .rept 32
    .balign 16
    pushq $number
    jmp boot_exception
    .set number, number + 1
    .endr

boot_exception:
    popq %rdi
    movq %rsp, %rsi
    andq $-16, %rsp
    call unikernel_exception
    ud2
