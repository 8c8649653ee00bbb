// The residual stream after each addition and the end of a token's instructions in a vector tile (docs/reference/rtl/verification.md, Lockstep).
// Words of `residual`: element, value.
`default_nettype none

module nmllm_observe_vector
  import nmllm_pkg::*;
#(
    parameter int unsigned ADDRESS_BITS = 8
) (
    input logic                          clk,
    input logic                          rst,
    input logic [14:0]                   hidden_size,
    input logic                          add_write,
    input logic [ADDRESS_BITS-1:0]       add_address,
    input logic [VECTOR_LANES-1:0][31:0] add_data,
    input logic                          row_done
);
  import "DPI-C" function int nmllm_channel(input string path, input string signal_name);
  import "DPI-C" function void nmllm_observe(input int channel, input longint cycle, input int a, input int b, input int c, input int d);

  int residuals, ends;
  initial begin
    residuals = nmllm_channel($sformatf("%m"), "residual");
    ends = nmllm_channel($sformatf("%m"), "instructions_done");
  end

  always_ff @(posedge clk) begin
    if (add_write && !rst) begin
      for (int i = 0; i < int'(VECTOR_LANES); i++) begin
        if (32'(add_address) * VECTOR_LANES + i < 32'(hidden_size))
          nmllm_observe(residuals, $time, 32'(add_address) * VECTOR_LANES + i, add_data[i], 0, 0);
      end
    end
    if (row_done && !rst) nmllm_observe(ends, $time, 0, 0, 0, 0);
  end
endmodule

bind nmllm_vector_tile nmllm_observe_vector #(.ADDRESS_BITS(ADDRESS_BITS)) observe (
    .clk, .rst, .hidden_size(hidden_q), .add_write, .add_address(add_write_address), .add_data(add_write_data), .row_done);

`default_nettype wire
