// The chip with a model of its DRAM: rows of WORDS words, written through the host port as tile TILES, address = word * parts + part of 8 bytes.
`default_nettype none

module nmllm_chip_tb
  import nmllm_pkg::*;
#(
    parameter bit [TILES-1:0] USED = '1,
    parameter int unsigned HEAD_DIM = 16,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SLOTS = 4,
    parameter int unsigned PHASES = MAX_PHASES,
    parameter int unsigned DRAM_WORDS = 16384,
    localparam int unsigned VALUES = DRAM_BYTES_PER_CYCLE / 2,
    localparam int unsigned PARTS = VALUES / 4
) (
    input  logic                 clk,
    input  logic                 rst,
    input  logic                 cfg_valid,
    input  logic                 cfg_dram,
    input  logic [TILE_BITS-1:0] cfg_tile,
    input  logic [          3:0] cfg_unit,
    input  logic [         23:0] cfg_address,
    input  logic [         63:0] cfg_data,
    output logic                 token_valid,
    output logic [         31:0] token,
    output logic [SEQUENCE_BITS-1:0] token_sequence,
    output logic                 done,
    input  logic [TILE_BITS-1:0] counter_tile,
    input  logic [          5:0] counter_index,
    output logic [         63:0] counter_value,
    output logic [         63:0] counts         [TILES][45]
);
  localparam int unsigned WORD_BITS = $clog2(DRAM_WORDS);
  logic dram_enable;
  // verilator lint_off UNUSEDSIGNAL
  logic [31:0] dram_address;
  // verilator lint_on UNUSEDSIGNAL
  logic [VALUES-1:0][15:0] dram_data, pipe[DRAM_LATENCY];
  logic [PARTS-1:0][63:0] words[DRAM_WORDS];

  always_ff @(posedge clk) begin
    if (cfg_valid && cfg_dram) words[WORD_BITS'(cfg_address/24'(PARTS))][$clog2(PARTS)'(cfg_address%24'(PARTS))] <= cfg_data;
    if (dram_enable) pipe[0] <= words[dram_address[WORD_BITS-1:0]];
    for (int i = 1; i < int'(DRAM_LATENCY); i++) pipe[i] <= pipe[i-1];
  end
  assign dram_data = pipe[DRAM_LATENCY-1];

  nmllm_chip #(.USED(USED), .HEAD_DIM(HEAD_DIM), .GROUP(GROUP), .SLOTS(SLOTS), .PHASES(PHASES)) chip (
      .clk, .rst, .cfg_valid(cfg_valid && !cfg_dram), .cfg_tile, .cfg_unit, .cfg_address, .cfg_data, .dram_enable, .dram_address, .dram_data,
      .token_valid, .token, .token_sequence, .done, .counter_tile, .counter_index, .counter_value, .counts);
endmodule

`default_nettype wire
