// Digits of one phase of a word in the encoder's code, and what is left of its elements for the phases after it (numerics.md, the codes).
// Combinational; without `enable` nothing fires and nothing is left.
//
// What is left of other codes than signed-digit: rate {sign, 6'b0, |a|, 7'b0, running share}, first-spike x or 0 once it has fired, bit-planes a.
`default_nettype none

module nmllm_encoder_digits
  import nmllm_pkg::*;
#(
    parameter int unsigned LANES = VECTOR_LANES
) (
    input  logic                       enable,
    input  code_t                      code,
    input  logic [      8:0]           limit,  // T
    input  logic                       first,  // the train's first phase: `value` are the elements themselves
    input  logic [      8:0]           left,  // phases of the train from this one on
    input  logic [      5:0]           k,
    input  logic [LANES-1:0]           lane_valid,
    input  logic [LANES-1:0][31:0]     value,
    input  logic [LANES-1:0][31:0]     price,
    output logic [LANES-1:0]           fires,
    output logic [LANES-1:0]           negative,
    output logic [LANES-1:0][31:0]     rest
);
  logic [LANES-1:0] digit_fires;
  logic [LANES-1:0][31:0] digit_rest;

  nmllm_signed_digits #(
      .LANES(LANES)
  ) digits (
      .enable(enable && code == SIGNED_DIGIT),
      .k,
      .value,
      .price,
      .fires(digit_fires),
      .rest (digit_rest)
  );

  function automatic logic [31:0] magnitude(input logic [31:0] x);
    magnitude = x[31] ? -x : x;
  endfunction

  function automatic logic signed [31:0] rounding_shift(input logic signed [31:0] x, input logic [5:0] places);
    rounding_shift = 32'((33'(x) + signed'((33'd1 << places) >> 1)) >>> places);
  endfunction

  always_comb begin
    automatic logic [35:0] reach = 36'd3 << k;
    fires = '0;
    negative = '0;
    rest = '0;
    if (enable) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [31:0] size = magnitude(value[i]);
        automatic logic fire = 1'b0;
        automatic logic minus = value[i][31];
        automatic logic [31:0] after = value[i];
        automatic logic dead = first && size[31:16] == '0 && 32'(size[15:0]) * 32'(size[15:0]) <= price[i];
        unique case (code)
          RATE: begin
            automatic logic [31:0] code_size = magnitude(rounding_shift(value[i], k));
            automatic logic [8:0] level = first ? (code_size > 32'(limit) ? limit : code_size[8:0]) : value[i][24:16];
            automatic logic [9:0] share = first ? 10'(level) : 10'(level) + 10'(value[i][8:0]);
            if (dead) begin
              level = '0;
              share = '0;
            end
            fire = share >= 10'(limit);
            if (fire) share = share - 10'(limit);
            after = {minus, 6'd0, level, 7'd0, share[8:0]};
          end
          FIRST_SPIKE: begin
            fire = !dead && 36'({size, 2'b00}) >= reach && 36'({size, 1'b0}) < reach;
            if (fire || dead) after = '0;
          end
          BIT_PLANES: begin
            if (first) begin
              automatic logic signed [31:0] rounded = rounding_shift(value[i], k);
              automatic logic signed [31:0] top = signed'((32'd1 << (limit - 9'd1)) - 32'd1);
              after = dead ? '0 : rounded > top ? top : rounded < ~top ? ~top : rounded;
              fire = after[31];
              minus = 1'b1;
            end else begin
              fire = value[i][5'(left-9'd1)];
              minus = 1'b0;
            end
          end
          default: begin
            fire = digit_fires[i];
            after = digit_rest[i];
          end
        endcase
        fires[i] = fire && lane_valid[i];
        negative[i] = fire && lane_valid[i] && minus;
        rest[i] = lane_valid[i] ? after : value[i];
      end
    end
  end
endmodule

`default_nettype wire
