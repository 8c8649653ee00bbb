// Position of the token at work in its sequence, and the part of the key/value memories that the sequence has (docs/reference/timing.md, Several
// sequences).
//
//   take              a residual becomes the stream at this cycle; `stream_sequence` is that of the stream, from the next cycle on
//   part              tokens of a sequence that the memories hold
//   position, base    of the token, and the place of the first token of its sequence: from the second cycle after `take` on
`default_nettype none

module nmllm_positions
  import nmllm_pkg::*;
#(
    parameter int unsigned PLACE_BITS = 15
) (
    input  logic                     clk,
    input  logic                     rst,
    input  logic                     take,
    input  logic [SEQUENCE_BITS-1:0] stream_sequence,
    input  logic [   PLACE_BITS-1:0] part,
    output logic [             14:0] position,
    output logic [   PLACE_BITS-1:0] base
);
  logic taken_q;
  logic [SEQUENCES-1:0] begun_q;  // has had a token
  logic [14:0] next_q[SEQUENCES];  // position, once begun
  logic [14:0] present;
  assign present = begun_q[stream_sequence] ? next_q[stream_sequence] : '0;

  always_ff @(posedge clk) begin
    taken_q <= take;
    if (taken_q) begin
      position <= present;
      base <= PLACE_BITS'(stream_sequence) * part;
      next_q[stream_sequence] <= present + 15'd1;
      begun_q[stream_sequence] <= 1'b1;
    end
    if (rst) begin
      taken_q <= 1'b0;
      begun_q <= '0;
    end
  end
endmodule

`default_nettype wire
