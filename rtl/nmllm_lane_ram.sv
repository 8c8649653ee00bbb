// Memory of words of LANES x 32 bits whose lanes can be written one by one; otherwise as nmllm_ram.
`default_nettype none

module nmllm_lane_ram #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned DEPTH = 256,
    localparam int unsigned ADDRESS_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input  logic                               clk,
    input  logic [       LANES-1:0]            write_mask,
    input  logic [ADDRESS_BITS-1:0]            write_address,
    input  logic [       LANES-1:0][31:0]      write_data,
    input  logic                               read_enable,
    input  logic [ADDRESS_BITS-1:0]            read_address,
    output logic [       LANES-1:0][31:0]      read_data
);
  logic [LANES-1:0][31:0] words[DEPTH];

  always_ff @(posedge clk) begin
    if (read_enable) read_data <= words[read_address];
    for (int lane = 0; lane < int'(LANES); lane++) begin
      if (write_mask[lane]) words[write_address][lane] <= write_data[lane];
    end
  end

`ifndef SYNTHESIS
  write_in_range : assert property (@(posedge clk) |write_mask |-> 32'(write_address) < DEPTH)
  else $error("write_in_range: address %0d of %0d words", write_address, DEPTH);
  read_in_range : assert property (@(posedge clk) read_enable |-> 32'(read_address) < DEPTH)
  else $error("read_in_range: address %0d of %0d words", read_address, DEPTH);
`endif
endmodule

`default_nettype wire
