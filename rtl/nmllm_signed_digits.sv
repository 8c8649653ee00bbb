// Signed digits of one phase of a word (numerics.md, signed-digit): an element fires where its remainder is nearer to the weight 2^k than to 0 by the
// 3/4 rule and saves more than its stop price R. Combinational; without `enable` nothing fires and the remainders are 0.
`default_nettype none

module nmllm_signed_digits #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES
) (
    input  logic                       enable,
    input  logic [      5:0]           k,
    input  logic [LANES-1:0][31:0]     value,  // remainders
    input  logic [LANES-1:0][31:0]     price,
    output logic [LANES-1:0]           fires,
    output logic [LANES-1:0][31:0]     rest  // remainders after the phase
);
  always_comb begin
    automatic logic [35:0] weight = 36'd1 << k;
    automatic logic [35:0] reach = 36'd3 << k;
    fires = '0;
    rest = '0;
    if (enable) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [31:0] magnitude = value[i][31] ? -value[i] : value[i];
        fires[i] = 36'({magnitude, 2'b00}) >= reach && 36'({magnitude, 1'b0}) > weight + 36'(price[i] >> k);
        rest[i] = !fires[i] ? value[i] : value[i][31] ? value[i] + weight[31:0] : value[i] - weight[31:0];
      end
    end
  end
endmodule

`default_nettype wire
