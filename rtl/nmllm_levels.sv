// Levels of first-spike-log of a word: the slot of the level nearest to every element, the larger of two equally near (docs/reference/codes.md).
//
// Twice the magnitude, shifted by k, is compared in half-scale steps of its octave: the leading one says the octave, at most STEPS + 1 comparisons
// the slot in it. Silent is an element that is nearer to 0 than to the least level, or not above its price, the square root of R. Combinational;
// without `enable` nothing fires.
`default_nettype none

module nmllm_levels
  import nmllm_pkg::*;
#(
    parameter int unsigned LANES = VECTOR_LANES
) (
    input  logic                               enable,
    input  logic [      5:0]                   k,
    input  logic [LANES-1:0]                   lane_valid,
    input  logic [LANES-1:0][            31:0] value,
    input  logic [LANES-1:0][            31:0] price,
    output logic [LANES-1:0]                   fires,
    output logic [LANES-1:0]                   negative,
    output logic [LANES-1:0][STAMP_BITS-1:0]   slots
);
  localparam int unsigned LEAST = 32'(LEVELS[0]);
  localparam int unsigned OCTAVE_BITS = $clog2(2 * LEAST + 1);  // of twice the least level

  always_comb begin
    fires = '0;
    negative = '0;
    slots = '0;
    if (enable) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [31:0] magnitude = value[i][31] ? -value[i] : value[i];
        automatic logic [15:0] twice = 16'({1'b0, magnitude, 1'b0} >> k);
        automatic logic [4:0] length = '0;
        automatic logic [3:0] octave = '0;
        automatic logic [15:0] near;
        automatic logic [STAMP_BITS-1:0] steps = '0;
        for (int unsigned b = 0; b < 16; ++b) if (twice[b]) length = 5'(b + 1);
        if (length > 5'(OCTAVE_BITS)) octave = 4'(length - 5'(OCTAVE_BITS));
        near = {twice[14:0], 1'b0} >> octave;
        for (int unsigned s = 1; s <= STEPS; ++s) begin
          if (32'(near) >= 2 * (32'(LEVELS[6'(s-1)]) + (s == STEPS ? 2 * LEAST : 32'(LEVELS[6'(s)])))) steps = steps + 1'b1;
        end
        slots[i] = STAMP_BITS'(STEPS * 32'(octave)) + steps;
        if (octave != '0 && 32'(near) < 32'(LEVELS[6'(STEPS-1)]) + 2 * LEAST) slots[i] = slots[i] - 1'b1;
        fires[i] = lane_valid[i] && 32'(twice) >= LEAST && magnitude > price[i];
        negative[i] = fires[i] && value[i][31];
      end
    end
  end
endmodule

`default_nettype wire
