// Accumulators that the output stage of a synapse tile reads (docs/reference/rtl/verification.md, Lockstep). Words: column, value.
`default_nettype none

module nmllm_observe_synapse
  import nmllm_pkg::*;
#(
    parameter int unsigned READ_LANES = 8,
    parameter int unsigned COUNT_BITS = 4
) (
    input logic                               clk,
    input logic                               rst,
    input logic                               start,  // of an output
    input logic                               read,
    input logic        [      COUNT_BITS-1:0] read_count,
    input logic                               valid,  // the values of the read in the cycle before
    input logic signed [ACCUMULATOR_BITS-1:0] values    [READ_LANES]
);
  import "DPI-C" function int nmllm_channel(input string path, input string signal_name);
  import "DPI-C" function void nmllm_observe(input int channel, input longint cycle, input int a, input int b, input int c, input int d);

  int accumulators;
  initial accumulators = nmllm_channel($sformatf("%m"), "accumulator");

  logic [31:0] column_q;
  logic [COUNT_BITS-1:0] count_q;
  always_ff @(posedge clk) begin
    if (read) count_q <= read_count;
    if (valid && !rst) begin
      for (int i = 0; i < int'(READ_LANES); i++) begin
        if (i < int'(count_q)) nmllm_observe(accumulators, $time, column_q + i, 32'(values[i]), 0, 0);
      end
      column_q <= column_q + 32'(count_q);
    end
    if (start) column_q <= '0;
  end
endmodule

bind nmllm_synapse_tile nmllm_observe_synapse #(.READ_LANES(READ_LANES), .COUNT_BITS(LANE_BITS + 1)) observe (
    .clk, .rst, .start(output_start), .read(stage_read), .read_count(stage_count), .valid(accumulator_valid), .values(accumulator_values));

`default_nettype wire
