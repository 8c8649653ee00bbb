// nmllm_kv_write with the vector memory, and a copy of it as the memory of the key offsets.
`default_nettype none

module nmllm_kv_write_tb #(
    parameter  int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter  int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    localparam int unsigned ADDRESS_BITS = 10,
    localparam int unsigned MAX_HEAD_DIM = 64,
    localparam int unsigned GROUPS = LANES / 2,
    localparam int unsigned HEAD_WORDS = MAX_HEAD_DIM / LANES > 1 ? MAX_HEAD_DIM / LANES : 2
) (
    input  logic                                    clk,
    input  logic                                    rst,
    input  logic                                    load_valid,
    input  logic         [        ADDRESS_BITS-1:0] load_address,
    input  logic [ LANES-1:0][                31:0] load_data,
    input  logic                                    cfg_valid,
    input  logic         [                     5:0] cfg_address,
    input  logic         [                    63:0] cfg_data,
    input  logic                                    start,
    input  logic         [                    14:0] size,
    input  logic         [        ADDRESS_BITS-1:0] base,
    input  logic         [       $clog2(LANES)-1:0] offset,
    input  logic                                    centred,
    input  logic         [        ADDRESS_BITS-1:0] offset_base,
    output logic                                    done,
    output logic [GROUPS-1:0]                       kv_valid,
    output logic [GROUPS-1:0][                 5:0] kv_vector,
    output logic         [$clog2(HEAD_WORDS)-1:0] kv_word,
    output logic [ LANES-1:0][                 7:0] kv_data,
    output logic [GROUPS-1:0][                 4:0] kv_exponent,
    output logic         [                    47:0] count_elements,
    output logic         [                    47:0] count_vectors,
    output logic         [                    47:0] count_offsets
);
  logic read_enable, offset_enable;
  logic [ADDRESS_BITS-1:0] read_address, offset_address;
  logic [LANES-1:0][31:0] read_data, offset_data;

  nmllm_kv_write #(
      .LANES(LANES),
      .LATENCY(LATENCY),
      .ADDRESS_BITS(ADDRESS_BITS),
      .MAX_HEAD_DIM(MAX_HEAD_DIM)
  ) u_kv_write (
      .*
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_vector (
      .clk,
      .write_enable(load_valid),
      .write_address(load_address),
      .write_data(load_data),
      .read_enable,
      .read_address,
      .read_data
  );
  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_offsets (
      .clk,
      .write_enable(load_valid),
      .write_address(load_address),
      .write_data(load_data),
      .read_enable(offset_enable),
      .read_address(offset_address),
      .read_data(offset_data)
  );
endmodule

`default_nettype wire
