"""The SystemVerilog of the chip from Python: its package of constants, and Verilated modules (docs/reference/rtl/index.md)."""
