// Memory with one write port and one read port. `read_data` shows, in the cycle after `read_enable`, the word at
// `read_address`; it keeps its value while `read_enable` is low. A write is seen by reads from the next cycle on: a read in
// the cycle of a write to the same address returns the old word. Contents are undefined before they are written.
`default_nettype none

module nmllm_ram #(
    parameter int unsigned WIDTH = 32,
    parameter int unsigned DEPTH = 256,
    localparam int unsigned ADDRESS_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input  logic                    clk,
    input  logic                    write_enable,
    input  logic [ADDRESS_BITS-1:0] write_address,
    input  logic [       WIDTH-1:0] write_data,
    input  logic                    read_enable,
    input  logic [ADDRESS_BITS-1:0] read_address,
    output logic [       WIDTH-1:0] read_data
);
  logic [WIDTH-1:0] words[DEPTH];

  always_ff @(posedge clk) begin
    if (read_enable) read_data <= words[read_address];
    if (write_enable) words[write_address] <= write_data;
  end

`ifndef SYNTHESIS
  // Sizes that are no power of two leave addresses that do not exist.
  write_in_range : assert property (@(posedge clk) write_enable |-> 32'(write_address) < DEPTH)
  else $error("write_in_range: address %0d of %0d words", write_address, DEPTH);
  read_in_range : assert property (@(posedge clk) read_enable |-> 32'(read_address) < DEPTH)
  else $error("read_in_range: address %0d of %0d words", read_address, DEPTH);
`endif
endmodule

`default_nettype wire
