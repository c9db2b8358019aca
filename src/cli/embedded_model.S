/* The default model, so that the program needs no file beside it. TIDEMILL_EMBEDDED_MODEL is its path. */
    .section .rodata
    .balign 64
    .global tidemill_embedded_model_begin
    .global tidemill_embedded_model_end
tidemill_embedded_model_begin:
    .incbin TIDEMILL_EMBEDDED_MODEL
tidemill_embedded_model_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
