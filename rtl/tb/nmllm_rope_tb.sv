// nmllm_rope with its memories; `load_memory` 0 vector, 1 rotary table.
`default_nettype none

module nmllm_rope_tb #(
    parameter  int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter  int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    localparam int unsigned ADDRESS_BITS = 10,
    localparam int unsigned GROUPS = LANES / 2
) (
    input  logic                            clk,
    input  logic                            rst,
    input  logic                            load_valid,
    input  logic                            load_memory,
    input  logic         [ADDRESS_BITS-1:0] load_address,
    input  logic [ LANES-1:0][        31:0] load_data,
    input  logic                            cfg_valid,
    input  logic                            cfg_address,
    input  logic         [            63:0] cfg_data,
    input  logic                            start,
    input  logic         [            14:0] size,
    input  logic         [ADDRESS_BITS-1:0] vector_base,
    input  logic         [ADDRESS_BITS-1:0] table_base,
    output logic                            done,
    output logic                            write_enable,
    output logic         [ADDRESS_BITS-1:0] write_address,
    output logic [ LANES-1:0][        31:0] write_data,
    output logic [GROUPS-1:0]               maximum_valid,
    output logic         [             9:0] maximum_head,
    output logic [GROUPS-1:0][        31:0] maximum,
    output logic         [            47:0] count_elements,
    output logic         [            47:0] count_maximum_elements,
    output logic         [            47:0] count_words_read,
    output logic         [            47:0] count_words_written,
    output logic         [            47:0] count_table_entries
);
  logic read_enable, table_enable, vector_load;
  logic [ADDRESS_BITS-1:0] read_address, table_address;
  logic [LANES-1:0][31:0] read_data, table_data;

  assign vector_load = load_valid && !load_memory;

  nmllm_rope #(
      .LANES(LANES),
      .LATENCY(LATENCY),
      .ADDRESS_BITS(ADDRESS_BITS),
      .TABLE_ADDRESS_BITS(ADDRESS_BITS)
  ) u_rope (
      .*
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_vector (
      .clk,
      .write_enable(vector_load || write_enable),
      .write_address(vector_load ? load_address : write_address),
      .write_data(vector_load ? load_data : write_data),
      .read_enable,
      .read_address,
      .read_data
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_table (
      .clk,
      .write_enable(load_valid && load_memory),
      .write_address(load_address),
      .write_data(load_data),
      .read_enable(table_enable),
      .read_address(table_address),
      .read_data(table_data)
  );
endmodule

`default_nettype wire
