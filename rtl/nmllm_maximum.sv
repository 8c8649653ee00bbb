// Largest magnitude of a vector, taken while it is written (timing.md, `vector.maximum`).
//
// Words of up to LANES elements, those of the mask, from the cycle after `clear` on; `maximum` holds from the cycle after the last one until the next
// `clear`. Path of a cycle: tree of LANES comparisons.
`default_nettype none

module nmllm_maximum #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES
) (
    input  logic                   clk,
    input  logic                   clear,
    input  logic [LANES-1:0]       mask,
    input  logic [LANES-1:0][31:0] data,
    output logic [31:0]            maximum  // 2^31 of -2^31
);
  logic [31:0] largest;

  always_comb begin
    largest = maximum;
    for (int unsigned i = 0; i < LANES; ++i) begin
      automatic logic [31:0] magnitude = data[i][31] ? -data[i] : data[i];
      if (mask[i] && magnitude > largest) largest = magnitude;
    end
  end

  always_ff @(posedge clk) begin
    if (clear) maximum <= '0;
    else if (mask != '0) maximum <= largest;
  end
endmodule

`default_nettype wire
