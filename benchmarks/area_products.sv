// Signed INT8 products of one output of a digital array, their sum and its register (docs/reference/area.md, Rivals).
`default_nettype none

module area_products #(
    parameter int unsigned PRODUCTS = 8
) (
    input  logic               clk,
    input  logic               clear,
    input  logic signed [ 7:0] inputs     [PRODUCTS],
    input  logic signed [ 7:0] weights    [PRODUCTS],
    output logic signed [31:0] accumulator
);
  logic signed [31:0] sum;

  always_comb begin
    sum = '0;
    for (int i = 0; i < PRODUCTS; i++) sum = sum + 32'(inputs[i] * weights[i]);
  end

  always_ff @(posedge clk) accumulator <= (clear ? 32'sd0 : accumulator) + sum;
endmodule

`default_nettype wire
