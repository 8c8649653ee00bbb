// Tokens that arrive at the host (docs/reference/rtl/verification.md, Lockstep). Words: token, its sequence.
`default_nettype none

module nmllm_observe_host
  import nmllm_pkg::*;
(
    input logic                     clk,
    input logic                     rst,
    input logic                     token_valid,
    input logic [31:0]              token,
    input logic [SEQUENCE_BITS-1:0] token_sequence
);
  import "DPI-C" function int nmllm_channel(input string path, input string signal_name);
  import "DPI-C" function void nmllm_observe(input int channel, input longint cycle, input int a, input int b, input int c, input int d);

  int tokens;
  initial tokens = nmllm_channel($sformatf("%m"), "token");

  always_ff @(posedge clk) begin
    if (token_valid && !rst) nmllm_observe(tokens, $time, token, 32'(token_sequence), 0, 0);
  end
endmodule

bind nmllm_host_tile nmllm_observe_host observe (.clk, .rst, .token_valid, .token, .token_sequence);

`default_nettype wire
